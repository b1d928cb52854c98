"""BSData: surface of a ball screw, worn until it pits; MVTec-like folders.

File names read ``<screw>_<time>_<position>_<angle>_crop_<n>``. One screw was photographed again and again at
the same 15 places (position along the screw and angle) while it wore, so images of one place are nearly the
same picture weeks apart: the place is the group. Some defects are of other screws (``KGT…``): the screw is.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from .mvtec import is_category, read_folder
from .split import DatasetSplit, Entry, assemble

FOLDERS = ("ball_screw",)
PLACE = re.compile(r"^\d+_\d{12}_(?P<position>\d+)_(?P<angle>\d+)_crop_\d+$")


def group_of(stem: str) -> str:
    """Place on the screw, or the screw itself where a name tells no place."""
    if found := PLACE.match(stem):
        return f"place-{found['position']}-{found['angle']}"
    return f"screw-{stem.split('_crop_')[0]}"


def grouped(entries: list[Entry]) -> list[Entry]:
    """Entries with their groups."""
    return [replace(entry, group=group_of(entry.path.stem)) for entry in entries]


def names(folder: Path) -> list[str]:
    """The set, where it is there."""
    return [""] if is_category(folder) else []


def load(name: str, folder: Path, category: str, seed: int) -> DatasetSplit:
    """Ball screw, in the folders it comes in."""
    train, test = read_folder(folder)
    return assemble(
        name,
        folder,
        grouped(train),
        grouped(test),
        seed=seed,
        origin="BSData, Schlagenhauf et al. 2021; longest side 384",
        licence="CC BY-SA 4.0",
        protocol="folders as they come (not official); training and test show the same 15 places",
    )
