"""VisA: twelve products, split by the table ``split_csv/1cls.csv``."""

from __future__ import annotations

import csv
from pathlib import Path

from offnominal.core.errors import BadSource

from .masks import NoAnomaly, Picture
from .split import DatasetSplit, Entry, assemble

FOLDERS = ("visa", "VisA", "VisA_20220922")
TABLE = "split_csv/1cls.csv"
COLUMNS = {"object", "split", "label", "image", "mask"}


def rows(folder: Path) -> list[dict[str, str]]:
    """Rows of the table of the one-class split."""
    path = folder / TABLE
    if not path.is_file():
        raise BadSource(f"{path} is missing; VisA keeps its one-class split there")
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if missing := COLUMNS - set(reader.fieldnames or ()):
            raise BadSource(f"{path} lacks the columns {sorted(missing)}; is it VisA's own?")
        return list(reader)


def names(folder: Path) -> list[str]:
    """Products of a VisA folder."""
    return sorted({row["object"] for row in rows(folder)}) if (folder / TABLE).is_file() else []


def load(name: str, folder: Path, category: str, seed: int) -> DatasetSplit:
    """One product of VisA, official one-class split."""
    parts: dict[str, list[Entry]] = {"train": [], "test": []}
    for row in rows(folder):
        if row["object"] != category:
            continue
        if row["label"] == "normal":
            entry = Entry(folder / row["image"], mask=NoAnomaly())
        else:
            mask = Picture(folder / row["mask"]) if row["mask"] else None
            entry = Entry(folder / row["image"], 1, kind="anomaly", mask=mask)
        parts[row["split"]].append(entry)
    return assemble(
        name,
        folder,
        parts["train"],
        parts["test"],
        seed=seed,
        origin="VisA (SPot-the-Difference), Zou et al. 2022",
        licence="CC BY 4.0",
        protocol="official one-class split (split_csv/1cls.csv)",
    )
