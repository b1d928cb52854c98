"""BTAD: three industrial products, MVTec-like folders ``ok`` and ``ko``."""

from __future__ import annotations

from pathlib import Path

from .mvtec import is_category, read_folder
from .split import DatasetSplit, assemble

FOLDERS = ("btad", "BTAD", "BTech_Dataset_transformed")


def names(folder: Path) -> list[str]:
    """Products of a BTAD folder."""
    return sorted(path.name for path in folder.iterdir() if is_category(path, "ok"))


def load(name: str, folder: Path, category: str, seed: int) -> DatasetSplit:
    """One product of BTAD, official split."""
    train, test = read_folder(folder / category, good="ok")
    return assemble(
        name,
        folder / category,
        train,
        test,
        seed=seed,
        origin="BTAD (VT-ADL), Mishra et al. 2021",
        licence="CC BY-NC-SA 4.0",
        protocol="official",
    )
