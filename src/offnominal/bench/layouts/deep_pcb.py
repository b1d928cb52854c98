"""DeepPCB: pairs of a template and a tested board, defects as boxes ``x1 y1 x2 y2 kind``."""

from __future__ import annotations

from pathlib import Path

from offnominal.core.errors import BadSource

from .masks import Boxes, NoAnomaly
from .split import DatasetSplit, Entry, assemble

FOLDERS = ("deep_pcb", "DeepPCB")
KINDS = {1: "open", 2: "short", 3: "mousebite", 4: "spur", 5: "copper", 6: "pin-hole"}


def boxes_of(path: Path) -> list[tuple[int, int, int, int, int]]:
    """Boxes and kinds of a tested board."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not (words := line.replace(",", " ").split()):
            continue
        try:
            x0, y0, x1, y1, kind = (int(word) for word in words)
        except ValueError as bad:
            raise BadSource(f"{path}: {line!r} is not a box 'x1 y1 x2 y2 kind'") from bad
        found.append((x0, y0, x1, y1, kind))
    return found


def pairs(folder: Path, listing: str) -> tuple[list[Entry], list[Entry]]:
    """Templates (normal) and tested boards (anomalous) of one official list; the design is the group."""
    base = folder / "PCBData"
    templates, tested = [], []
    for line in (base / listing).read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        image, annotation = line.split()
        path = base / image
        group = image.split("/")[0]
        found = boxes_of(base / annotation)
        kinds = sorted({KINDS.get(box[4], str(box[4])) for box in found})
        templates.append(
            Entry(path.with_name(f"{path.stem}_temp{path.suffix}"), group=group, mask=NoAnomaly())
        )
        tested.append(
            Entry(
                path.with_name(f"{path.stem}_test{path.suffix}"),
                1,
                kind="+".join(kinds),
                group=group,
                mask=Boxes(tuple(box[:4] for box in found)) if found else None,
            )
        )
    return templates, tested


def names(folder: Path) -> list[str]:
    """The set, where its lists are there."""
    return [""] if (folder / "PCBData" / "trainval.txt").is_file() else []


def load(name: str, folder: Path, category: str, seed: int) -> DatasetSplit:
    """Templates of the training list for training; templates and boards of the test list for testing."""
    train, training_anomalies = pairs(folder, "trainval.txt")
    good, bad = pairs(folder, "test.txt")
    return assemble(
        name,
        folder,
        train,
        [*good, *bad],
        seed=seed,
        training_anomalies=training_anomalies,
        origin="DeepPCB, Tang et al. 2019",
        licence="MIT",
        protocol="official lists, templates as normals, boxes as masks; some designs are in test only",
    )
