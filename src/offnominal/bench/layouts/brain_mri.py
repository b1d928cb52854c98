"""Brain MRI slices with and without a tumour: folders ``Training`` and ``Testing``.

The official split is spoilt: of its 105 healthy test slices 92 are copies of training slices. ``distinct``
takes every training slice out that has a copy in the test part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .alike import copies
from .split import DatasetSplit, Entry, assemble, images_in

FOLDERS = ("brain_mri",)
NORMAL = "no_tumor"


def part(folder: Path) -> list[Entry]:
    """Entries of one official folder."""
    found = []
    for kind in sorted(path for path in folder.iterdir() if path.is_dir()):
        for image in images_in(kind):
            label = int(kind.name != NORMAL)
            found.append(Entry(image, label, kind=kind.name.removesuffix("_tumor") if label else None))
    return found


def grouped(entries: Sequence[Entry]) -> list[Entry]:
    """Entries with copies of one slice in one group."""
    groups = copies([entry.path for entry in entries])
    return [replace(entry, group=f"slice-{group}") for entry, group in zip(entries, groups, strict=True)]


def names(folder: Path) -> list[str]:
    """The official split, and the same without copies across it."""
    return ["", "distinct"] if (folder / "Training" / NORMAL).is_dir() else []


def load(name: str, folder: Path, category: str, seed: int) -> DatasetSplit:
    """Healthy training slices for training, the whole test part for testing."""
    found = grouped([*part(folder / "Training"), *part(folder / "Testing")])
    testing = folder / "Testing"
    test = [entry for entry in found if testing in entry.path.parents]
    training = [entry for entry in found if testing not in entry.path.parents]
    protocol = "official folders; 92 of the 105 healthy test slices are copies of training slices"
    if category == "distinct":
        known = {entry.group for entry in test}
        training = [entry for entry in training if entry.group not in known]
        protocol = "official folders less every training slice that has a copy in the test part"
    return assemble(
        name,
        folder,
        [entry for entry in training if entry.label == 0],
        test,
        seed=seed,
        training_anomalies=[entry for entry in training if entry.label == 1],
        origin="Brain tumour classification (MRI), Bhuvaji et al. 2020; side 240",
        licence="none stated (research)",
        protocol=protocol,
    )
