"""Breast ultrasound (BUSI): normal, benign, malignant; no masks here. Near-copies stay on one side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .alike import copies
from .split import DatasetSplit, Entry, assemble, images_in, take_groups

FOLDERS = ("breast_ultrasound",)
KINDS = ("benign", "malignant")


def names(folder: Path) -> list[str]:
    """The set, where it is there."""
    return [""] if all((folder / kind).is_dir() for kind in ("normal", *KINDS)) else []


def load(name: str, folder: Path, category: str, seed: int) -> DatasetSplit:
    """70 % of the normal images for training, the others and all lesions in test."""
    found = [Entry(path) for path in images_in(folder / "normal")]
    found += [Entry(path, 1, kind=kind) for kind in KINDS for path in images_in(folder / kind)]
    groups = copies([entry.path for entry in found])
    found = [replace(entry, group=f"view-{group}") for entry, group in zip(found, groups, strict=True)]
    bad = [entry for entry in found if entry.label == 1]
    spoilt = {entry.group for entry in bad}
    good = [entry for entry in found if entry.label == 0]
    beside = [entry for entry in good if entry.group in spoilt]
    apart = [entry for entry in good if entry.group not in spoilt]
    share = max(0.3 * len(good) - len(beside), 0) / max(len(apart), 1)
    train, taken = take_groups(apart, share, seed)
    return assemble(
        name,
        folder,
        train,
        [*beside, *taken, *bad],
        seed=seed,
        origin="BUSI, Al-Dhabyani et al. 2020; 256 × 256",
        licence="CC (as published)",
        protocol="seeded 70/30 of the normals, near-copies together, those that copy a lesion image in test",
    )
