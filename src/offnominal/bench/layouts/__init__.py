"""Layouts of public data sets: where their images, labels and masks lie, and how they are split.

>>> from offnominal.bench import layouts
>>> layouts.find("data")                                                        # doctest: +SKIP
['ball_screw', 'cifar10/airplane', …, 'mvtec/bottle', …]
>>> split = layouts.load("ball_screw", "data", seed=0)                          # doctest: +SKIP
>>> split.train, split.test                                                     # doctest: +SKIP

A layout is one module: ``FOLDERS`` it may be found under, ``names(folder)`` of the sets in such a folder,
``load(name, folder, category, seed)``. To add one, write the module and name it in ``MODULES``.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from offnominal.core.errors import BadSource

from .masks import Boxes, Mask, NoAnomaly, Picture
from .split import DatasetSplit, Entry, LabelledImages

__all__ = ["Boxes", "DatasetSplit", "Entry", "LabelledImages", "Mask", "NoAnomaly", "Picture", "find", "load"]

MODULES = (
    "ball_screw",
    "brain_mri",
    "breast_ultrasound",
    "btad",
    "cifar10",
    "cookies",
    "deep_pcb",
    "magnetic_tile",
    "medianomaly",
    "mvtec",
    "toy_aliens",
    "visa",
)


def _module(name: str) -> ModuleType:
    return import_module(f".{name}", __name__)


def _locate(module: ModuleType, root: Path) -> Path | None:
    """Folder of a layout: directly under the root, or one level below it (``industrial/…``)."""
    for name in module.FOLDERS:
        folder: Path
        for folder in (root / name, *sorted(root.glob(f"*/{name}"))):
            if folder.is_dir():
                return folder
    return None


def find(root: str | Path) -> list[str]:
    """Names of the data sets under a folder, sorted.

    Parameters
    ----------
    root : str or Path
        Folder that holds the data sets' own folders, directly or one level down.

    Returns
    -------
    list of str
        ``layout`` or ``layout/category``, as `load` takes them.

    Raises
    ------
    BadSource
        Where the folder does not exist.
    """
    root = Path(root)
    if not root.is_dir():
        raise BadSource(f"{root} is not a folder; name the one that holds the data sets")
    found = []
    for name in MODULES:
        module = _module(name)
        folder = _locate(module, root)
        if folder is not None:
            found += [f"{name}/{category}" if category else name for category in module.names(folder)]
    return sorted(found)


def load(name: str, root: str | Path, seed: int = 0) -> DatasetSplit:
    """Load the split of a data set; images are not read yet.

    Parameters
    ----------
    name : str
        As `find` lists it.
    root : str or Path
        Folder that holds the data sets.
    seed : int, default 0
        Seed of what the data set leaves open: test part, validation part.

    Returns
    -------
    DatasetSplit

    Raises
    ------
    BadSource
        Where there is no such set under the folder, or it is incomplete.
    """
    layout, _, category = name.partition("/")
    folder = _locate(_module(layout), Path(root)) if layout in MODULES else None
    if folder is None or category not in _module(layout).names(folder):
        raise BadSource(f"no data set {name!r} under {root}; there are: {', '.join(find(root)) or 'none'}")
    split: DatasetSplit = _module(layout).load(name, folder, category, seed)
    return split
