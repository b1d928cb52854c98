"""CIFAR-10, one class normal and nine anomalous: ten sets of tiny photographs."""

from __future__ import annotations

from pathlib import Path

from offnominal.core.seeds import generator

from .split import DatasetSplit, Entry, assemble, images_in

FOLDERS = ("cifar10",)


def part(folder: Path, normal: str) -> tuple[list[Entry], list[Entry]]:
    """Normals and anomalies of one official half."""
    good, bad = [], []
    for kind in sorted(path for path in folder.iterdir() if path.is_dir()):
        for image in images_in(kind):
            if kind.name == normal:
                good.append(Entry(image))
            else:
                bad.append(Entry(image, 1, kind=kind.name))
    return good, bad


def names(folder: Path) -> list[str]:
    """The classes, each once the normal one."""
    if not (folder / "train").is_dir() or not (folder / "test").is_dir():
        return []
    return sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())


def load(name: str, folder: Path, category: str, seed: int) -> DatasetSplit:
    """One class normal; official halves."""
    train, others = part(folder / "train", category)
    good, bad = part(folder / "test", category)
    # as many anomalies as held-out normals are enough to choose by, and keep validation quick
    few = generator(seed, name, "anomalies").permutation(len(others))[: len(train) // 5]
    return assemble(
        name,
        folder,
        train,
        [*good, *bad],
        seed=seed,
        training_anomalies=[others[at] for at in sorted(few)],
        origin="CIFAR-10, Krizhevsky 2009",
        licence="none stated",
        protocol="official halves, one class normal; figures of a subset do not compare with others",
    )
