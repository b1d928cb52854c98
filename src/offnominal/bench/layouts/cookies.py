"""Cookies, whole or cracked: a manifest for the training part, file names for the test part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .masks import NoAnomaly, Picture
from .split import DatasetSplit, Entry, assemble, images_in

FOLDERS = ("cookies",)
MANIFEST = "dataset-files/manifests/template.manifest"


def colour_of(row: dict[str, Any]) -> tuple[int, int, int]:
    """RGB colour of anomalous pixels: in these masks the first palette entry, so *not* the non-zero ones."""
    (named,) = row["anomaly-mask-ref-metadata"]["internal-color-map"].values()
    digits = named["hex-color"].lstrip("#")
    return int(digits[0:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)


def training(folder: Path) -> list[Entry]:
    """Entries of the manifest."""
    base = folder / "dataset-files"
    found = []
    for line in (folder / MANIFEST).read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        row = json.loads(line)
        path = base / row["source-ref"]
        if row["anomaly-label"] == 0:
            found.append(Entry(path, mask=NoAnomaly()))
        else:
            mask = Picture(base / row["anomaly-mask-ref"], colour_of(row))
            found.append(Entry(path, 1, kind="cracked", mask=mask))
    return found


def names(folder: Path) -> list[str]:
    """The set, where its manifest is there."""
    return [""] if (folder / MANIFEST).is_file() else []


def load(name: str, folder: Path, category: str, seed: int) -> DatasetSplit:
    """Normals of the manifest for training, its cracked ones (with masks) for validation, the test folder."""
    found = training(folder)
    test = [
        Entry(path, 1, kind="cracked") if "anomaly" in path.stem else Entry(path)
        for path in images_in(folder / "test-images")
    ]
    return assemble(
        name,
        folder,
        [entry for entry in found if entry.label == 0],
        test,
        seed=seed,
        training_anomalies=[entry for entry in found if entry.label == 1],
        origin="Cookie data set of Amazon Lookout for Vision; longest side 384",
        licence="CC BY-SA 4.0",
        protocol="published manifest and test folder; the test part has no masks",
    )
