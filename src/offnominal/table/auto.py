"""The default for tables: a few unlike detectors, put on one scale by calibrated p-values."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.core.seeds import generator
from offnominal.decide.combination import Surprise
from offnominal.persistence import make, to_state
from offnominal.table.blocks import Matrix
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling

Combination = Literal["mean", "largest"]
MEMBERS = ("iforest", "hbos", "gmm", "loda")
"""Chosen over all of ADBench's sets together, and frozen: docs/benchmarks/table_auto.md."""


@card(
    "auto",
    title="Combining detectors by calibrated p-values",
    year=2020,
    url="https://doi.org/10.1093/biomet/asaa027",
    kind="detector",
    modality="table",
    setting=("full-shot", "noisy"),
    supervision="normal-only",
    scope="item",
    explains=("none",),
)
class Auto(TableDetector):
    """A few unlike detectors as one, to start with where nothing is known of the table: no labels, no tuning.

    Each member's scores of rows it has not seen say how surprising a new score is: −log of its p-value, which
    goes on beyond the highest (`offnominal.decide.combination.Surprise`). A row's score is the mean surprise,
    the logarithm of the geometric mean of the p-values. The detector's decision is calibrated on that
    score, so that the false-alarm rate holds however the members depend on one another.

    Parameters
    ----------
    members : tuple of str
        Names of vector detectors, with their default parameters.
    combination : {"mean", "largest"}, default "mean"
        Of the members' surprises.
    agreeing : bool, default False
        Whether members whose order of the training rows disagrees with the others' are left out.
    most : int, default 20000
        Rows that members learn from, at most: a seeded choice of them.
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    Costs what the members cost together, each fitted with its calibration. Which members, and how they are
    combined, was chosen on ADBench's sets and is the same for every table; what that choice is worth on a set
    it was not made on is measured by leaving each set out (docs/benchmarks/table_auto.md).
    """

    def __init__(
        self,
        members: tuple[str, ...] = MEMBERS,
        combination: Combination = "mean",
        agreeing: bool = False,
        most: int = 20_000,
        scaling: Scaling = "standard",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.members = members
        self.combination = combination
        self.agreeing = agreeing
        self.most = most
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    headers_: list[dict[str, Any]]
    slopes_: list[float]
    arrays_: dict[str, npt.NDArray[Any]]
    _each: list[TableDetector]
    _surprises: list[Surprise]
    _held: Matrix | None = None

    def _learn_rows(self, rows: Matrix) -> None:
        if not self.members:
            raise ValueError("auto needs at least one member")
        drawn = np.arange(len(rows))
        if len(rows) > self.most:
            drawn = np.sort(generator(self.seed, "auto").choice(len(rows), self.most, replace=False))
        each: list[Any] = []
        held = np.empty((len(rows), len(self.members)))
        rest = np.setdiff1d(np.arange(len(rows)), drawn)
        for at, name in enumerate(self.members):
            member = make(name, "table", scaling="none", seed=self.seed)
            calibrating = member.fit_score(rows[drawn])
            surprise = Surprise.of(calibrating)
            held[drawn, at] = surprise(calibrating)
            if len(rest):
                held[rest, at] = surprise(member.anomaly_score(rows[rest]))
            each.append((member, surprise))
        if self.agreeing and len(each) > 2:
            kept = agreeing(held)
            held, each = held[:, kept], [each[at] for at in kept]
        self.headers_, self.arrays_, self.slopes_ = [], {}, []
        for at, (member, surprise) in enumerate(each):
            member.decision_ = None
            header, arrays = to_state(member)
            self.headers_.append({key: header[key] for key in ("detector", "params", "learned")})
            self.slopes_.append(surprise.slope)
            self.arrays_ |= {f"{at}.{name}": array for name, array in arrays.items()}
            self.arrays_ |= {f"{at}.knots": surprise.knots, f"{at}.values": surprise.values}
        self._held = combined(held, self.combination)

    def _prepared(self) -> None:
        self._each, self._surprises = [], []
        for at, (header, slope) in enumerate(zip(self.headers_, self.slopes_, strict=True)):
            own = {
                name.partition(".")[2]: array
                for name, array in self.arrays_.items()
                if name.partition(".")[0] == str(at)
            }
            self._surprises.append(Surprise(own.pop("knots"), own.pop("values"), slope))
            self._each.append(_rebuilt(header, own))

    def _score_rows(self, rows: Matrix) -> Matrix:
        found = [
            surprise(member.anomaly_score(rows))
            for member, surprise in zip(self._each, self._surprises, strict=True)
        ]
        return combined(np.stack(found, axis=1), self.combination)

    def _left_out(self, rows: Matrix) -> tuple[Matrix, None] | None:
        held, self._held = self._held, None
        return None if held is None else (held, None)


def combined(surprises: Matrix, how: str) -> Matrix:
    """One score (n,) of the surprises (n, m)."""
    found: Matrix = surprises.mean(axis=1) if how == "mean" else surprises.max(axis=1)
    return found


def agreeing(surprises: Matrix) -> list[int]:
    """Columns (members) whose order of the rows goes with the others': the better half at least.

    A member is left out where its rank correlation with the mean of the others is below half the highest.
    """
    from scipy.stats import rankdata

    ranks = np.apply_along_axis(rankdata, 0, surprises)
    total = ranks.sum(axis=1)
    found = []
    for at in range(ranks.shape[1]):
        others = total - ranks[:, at]
        apart = ranks[:, at].std() * others.std()
        found.append(0.0 if apart == 0 else float(np.cov(ranks[:, at], others, bias=True)[0, 1] / apart))
    order = np.argsort(-np.array(found), kind="stable")
    fewest = (len(found) + 1) // 2
    return sorted(int(at) for place, at in enumerate(order) if place < fewest or found[at] >= max(found) / 2)


def _rebuilt(header: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> TableDetector:
    """A member from what was stored of it."""
    member: Any = make(header["detector"], "table", **_tuples(header["params"]))
    if not isinstance(member, TableDetector):
        raise ValueError(f"{header['detector']} is no vector detector")
    for name, value in [*header["learned"].items(), *arrays.items()]:
        table, _, key = name.partition("/")
        if not table.isidentifier() or table.startswith("_") or not table.endswith("_"):
            raise ValueError(f"{name!r} is no learned state")
        if key:
            vars(member).setdefault(table, {})[key] = value
        else:
            setattr(member, table, value)
    member._restored()
    return member


def _tuples(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in parameters.items()}
