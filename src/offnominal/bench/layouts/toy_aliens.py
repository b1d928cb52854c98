"""Toy aliens: renderings, whole or damaged; for smoke tests."""

from __future__ import annotations

from pathlib import Path

from .split import DatasetSplit, Entry, assemble, images_in, normals, take_groups

FOLDERS = ("toy_aliens",)


def names(folder: Path) -> list[str]:
    """The set, where it is there."""
    return [""] if (folder / "normal").is_dir() and (folder / "anomaly").is_dir() else []


def load(name: str, folder: Path, category: str, seed: int) -> DatasetSplit:
    """Two thirds of the normals for training, the rest and all anomalies in test."""
    train, good = take_groups(normals(images_in(folder / "normal")), 1 / 3, seed)
    bad = [Entry(path, 1, kind="anomaly") for path in images_in(folder / "anomaly")]
    return assemble(
        name,
        folder,
        train,
        [*good, *bad],
        seed=seed,
        origin="Toy alien data set of Amazon Lookout for Vision (renderings)",
        licence="CC BY-SA 4.0",
        protocol="seeded two thirds of the normals for training",
    )
