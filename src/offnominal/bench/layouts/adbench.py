"""ADBench's tables: npz files with ``X`` and ``y``, split as its data generator does.

A set of fewer than 1 000 rows is drawn with replacement up to 1 000, one of more than 10 000 rows is drawn
down to 10 000; then 70 % of the rows train, anomalies among them, and 30 % test, both classes in proportion;
columns are scaled to the training rows' range.

Source: Han et al., ADBench: Anomaly Detection Benchmark, NeurIPS 2022.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadSource, ExtraMissing

Matrix = npt.NDArray[np.float64]

FOLDERS = {
    "adbench": ("adbench", "Classical"),
    "adbench_resnet18": ("adbench_resnet18", "CV_by_ResNet18"),
    "adbench_bert": ("adbench_bert", "NLP_by_BERT"),
}
"""Layouts, and the folders each may be found under."""
LEAST, MOST = 1_000, 10_000
TEST_SHARE = 0.3
PROTOCOL = (
    "ADBench: fewer than 1 000 rows drawn with replacement to 1 000, more than 10 000 drawn to 10 000; "
    "70/30 with both classes in proportion; unlabelled training rows, anomalies among them; columns scaled "
    "to the range of the training rows"
)


@dataclass(frozen=True, slots=True)
class TableSplit:
    """A table's training and test part.

    Attributes
    ----------
    train : ndarray (n, d)
        Unlabelled.
    test : ndarray (m, d)
    labels : ndarray (m,) of int64
        Of the test rows: 0 normal, 1 anomalous.
    items : ndarray (m,) of str
        Names of the test rows: row in the file, and how often it was drawn before.
    """

    train: Matrix
    test: Matrix
    labels: npt.NDArray[np.int64]
    items: npt.NDArray[np.str_]

    def smaller(self, rows: int) -> TableSplit:
        """At most so many training rows, and test rows in proportion of the classes, for a quick look."""
        kept = np.arange(len(self.labels))
        if len(kept) > rows:
            each = [np.flatnonzero(self.labels == label) for label in (0, 1)]
            counts = [max(1, round(rows * len(at) / len(self.labels))) for at in each]
            kept = np.sort(np.concatenate([at[:count] for at, count in zip(each, counts, strict=True)]))
        return replace(
            self,
            train=self.train[:rows],
            test=self.test[kept],
            labels=self.labels[kept],
            items=self.items[kept],
        )


def find(root: str | Path) -> list[str]:
    """Names of the sets under a folder, ``layout/set``: in order of their names.

    Raises
    ------
    BadSource
        The folder does not exist.
    """
    root = Path(root)
    if not root.is_dir():
        raise BadSource(f"{root} is not a folder; name the one that holds the data sets")
    found = []
    for layout in FOLDERS:
        if (folder := _locate(layout, root)) is not None:
            found += [f"{layout}/{file.stem}" for file in sorted(folder.glob("*.npz"))]
    return found


def _locate(layout: str, root: Path) -> Path | None:
    for name in FOLDERS.get(layout, ()):
        for folder in (root / name, *sorted(root.glob(f"*/{name}"))):
            if folder.is_dir():
                return folder
    return None


def load(name: str, root: str | Path, seed: int = 0) -> TableSplit:
    """Load the split of a set under a seed.

    Parameters
    ----------
    name : str
        As `find` lists it.
    root : path
    seed : int
        The same seed gives the split that ADBench makes under it.

    Raises
    ------
    BadSource
        There is no such set, or it is not of that form.
    ExtraMissing
        scikit-learn, whose split it is, is not installed.
    """
    return split(*whole(name, root), seed)


def whole(name: str, root: str | Path) -> tuple[Matrix, npt.NDArray[np.int64]]:
    """Rows (n, d) and labels (n,) of a set, as they are stored.

    Raises
    ------
    BadSource
        There is no such set, or it is not of that form.
    """
    layout, _, title = name.partition("/")
    folder = _locate(layout, Path(root))
    file = None if folder is None else folder / f"{title}.npz"
    if file is None or not file.is_file():
        raise BadSource(f"no table {name!r} under {root}; there are: {', '.join(find(root)) or 'none'}")
    try:
        with np.load(file, allow_pickle=False) as stored:
            rows, labels = np.asarray(stored["X"], np.float64), np.asarray(stored["y"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BadSource(f"{file}: not a file with arrays X and y ({error})") from error
    if rows.ndim != 2 or labels.shape != (len(rows),) or not np.isin(labels, (0, 1)).all():
        raise BadSource(f"{file}: X is to be (n, d) and y (n,) of 0 and 1, not {rows.shape}, {labels.shape}")
    return rows, labels.astype(np.int64)


def split(rows: Matrix, labels: npt.NDArray[np.int64], seed: int) -> TableSplit:
    """Draw, split and scale rows (n, d) as ADBench does."""
    try:
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ExtraMissing("sklearn", "splitting as ADBench does") from error
    random = np.random.RandomState(seed)  # the old generator: it is the one that ADBench draws from
    chosen = np.arange(len(labels))
    if len(labels) < LEAST:
        chosen = random.choice(chosen, LEAST, replace=True)
    elif len(labels) > MOST:
        chosen = random.choice(chosen, MOST, replace=False)
    train, test = train_test_split(
        np.arange(len(chosen)), test_size=TEST_SHARE, stratify=labels[chosen], random_state=random
    )
    first, rest = rows[chosen[train]], rows[chosen[test]]
    low, high = first.min(axis=0), first.max(axis=0)
    reach = np.where(high > low, high - low, 1.0)
    return TableSplit((first - low) / reach, (rest - low) / reach, labels[chosen[test]], _names(chosen[test]))


def _names(rows: npt.NDArray[np.intp]) -> npt.NDArray[np.str_]:
    """Row numbers as text, a repeated one with how often it came before."""
    seen: dict[int, int] = {}
    names = []
    for row in rows.tolist():
        seen[row] = seen.get(row, -1) + 1
        names.append(f"{row}.{seen[row]}" if seen[row] else str(row))
    return np.array(names)
