"""MedIAnomaly (S005): seven medical sets in the folders they are published in.

Four have a list ``data.json`` beside ``images``; ISIC2018 its tables of diagnoses, nevi being the normal
ones; Camelyon16 the folders ``good`` and ``Ungood``; BraTS2021 slices with masks: it alone says where.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from offnominal.core.errors import BadSource
from offnominal.core.store import read_json

from .masks import NoAnomaly, Picture
from .split import DatasetSplit, Entry, assemble, images_in, normals

FOLDERS = ("MedIAnomaly-Data", "medianomaly")

LISTED = ("BrainTumor", "LAG", "RSNA", "VinCXR")
ISIC = "ISIC2018_Task3"
NEVUS = "NV"
LICENCES = {
    "BraTS2021": "BraTS terms (research)",
    "BrainTumor": "none stated (research)",
    "Camelyon16": "CC0",
    "ISIC2018_Task3": "CC BY-NC 4.0",
    "LAG": "on request (research)",
    "RSNA": "RSNA terms (research)",
    "VinCXR": "PhysioNet terms (research)",
}


def names(folder: Path) -> list[str]:
    """Sets that are there."""
    found = [name for name in LISTED if (folder / name / "data.json").is_file()]
    if (folder / ISIC / f"{ISIC}_Training_GroundTruth").is_dir():
        found.append(ISIC)
    if (folder / "Camelyon16" / "train" / "good").is_dir():
        found.append("Camelyon16")
    if (folder / "BraTS2021" / "train").is_dir():
        found.append("BraTS2021")
    return sorted(found)


def load(name: str, folder: Path, category: str, seed: int) -> DatasetSplit:
    """One of the seven sets, official split."""
    base = folder / category
    parts = {"BraTS2021": _brats, "Camelyon16": _camelyon, ISIC: _isic}.get(category, _listed)
    train, test = parts(base)
    return assemble(
        name,
        base,
        train,
        test,
        seed=seed,
        origin="MedIAnomaly, Cai et al. 2024",
        licence=LICENCES[category],
        protocol="official",
    )


def _listed(base: Path) -> tuple[list[Entry], list[Entry]]:
    """Sets with a list of images by part and label."""
    path = base / "data.json"
    try:
        listed: Any = read_json(path)
        train, good, bad = listed["train"]["0"], listed["test"]["0"], listed["test"]["1"]
        found = [[base / "images" / image for image in part] for part in (train, good, bad)]
    except (KeyError, TypeError, ValueError) as error:
        raise BadSource(f"{path}: must list images as train/0, test/0 and test/1 ({error!r})") from error
    return normals(found[0]), [*normals(found[1]), *(Entry(image, 1) for image in found[2])]


def _isic(base: Path) -> tuple[list[Entry], list[Entry]]:
    """Skin lesions: nevi against the other diagnoses."""
    train, test = (_diagnosed(base, part) for part in ("Training", "Test"))
    return [entry for entry in train if entry.label == 0], test


def _diagnosed(base: Path, part: str) -> list[Entry]:
    table = base / f"{ISIC}_{part}_GroundTruth" / f"{ISIC}_{part}_GroundTruth.csv"
    if not table.is_file():
        raise BadSource(f"{table} is missing: it holds the diagnoses of the {part.lower()} images")
    found = []
    with table.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            image = row.pop("image")
            kind = max(row, key=lambda name: float(row[name]))
            path = base / f"{ISIC}_{part}_Input" / f"{image}.jpg"
            found.append(Entry(path, int(kind != NEVUS), kind=None if kind == NEVUS else kind))
    return found


def _camelyon(base: Path) -> tuple[list[Entry], list[Entry]]:
    """Patches of lymph nodes."""
    bad = [Entry(image, 1, kind="tumour") for image in images_in(base / "test" / "Ungood")]
    return normals(images_in(base / "train" / "good")), [*normals(images_in(base / "test" / "good")), *bad]


def _brats(base: Path) -> tuple[list[Entry], list[Entry]]:
    """Slices of brains; those with a tumour have masks."""
    marked = images_in(base / "test" / "annotation")
    masks = {path.stem.replace("seg", "flair"): path for path in marked}
    bad = []
    for image in images_in(base / "test" / "tumor"):
        mask = masks.get(image.stem)
        bad.append(Entry(image, 1, kind="tumour", mask=None if mask is None else Picture(mask)))
    good = normals(images_in(base / "test" / "normal"), masked=bool(masks))
    train = [Entry(image, mask=NoAnomaly()) for image in sorted((base / "train").rglob("*.png"))]
    return train, [*good, *bad]
