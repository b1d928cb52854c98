"""INNE: isolation by balls around a few sampled rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.core.seeds import generator
from offnominal.table.blocks import Matrix
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling

_EDGE = 1 + 1e-9  # a row on a ball's edge, as the sampled neighbour that makes it is, lies within
_SPARED = 4  # training rows for each row of a sample from which on rows are judged by the other samples


@card(
    "inne",
    title="Isolation-based anomaly detection using nearest-neighbor ensembles",
    year=2018,
    url="https://doi.org/10.1111/coin.12156",
    kind="detector",
    modality="table",
    setting=("full-shot", "noisy"),
    supervision="normal-only",
    scope="item",
    localises=False,
)
class INNE(TableDetector):
    """How little the balls around sampled rows cover a row: local anomalies, quickly.

    Parameters
    ----------
    rounds : int, default 200
        Samples.
    sample : int, default 8
        Rows of a sample; all where there are fewer.
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    A ball reaches from a sampled row to its nearest sampled row. A row counts 1 − (radius of the
    centre's nearest neighbour's ball) / (radius of the centre's ball) for the smallest ball it lies in, 1
    where it lies in none. Fit O(rounds·sample²·d), score O(rounds·sample·d) a row. Decisions rest on the
    training rows, each scored by the samples it is not in, where there are four times as many rows as a
    sample has; else on folds.

    Source: Bandaragoda et al., Computational Intelligence 2018.
    """

    def __init__(
        self,
        rounds: int = 200,
        sample: int = 8,
        scaling: Scaling = "standard",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.rounds = rounds
        self.sample = sample
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    centres_: Matrix
    radii_: Matrix
    """Of each ball; -1 where there is none."""
    ratios_: Matrix
    _drawn: npt.NDArray[np.intp]

    def _learn_rows(self, rows: Matrix) -> None:
        random = generator(self.seed, "inne")
        size = min(self.sample, len(rows))
        chosen = np.stack([random.choice(len(rows), size, replace=False) for _ in range(self.rounds)])
        self._drawn = chosen
        centres = rows[chosen]
        squared = np.stack([((one[:, None] - one[None]) ** 2).sum(axis=2) for one in centres])
        # A row drawn again counts once: balls without extent would make every neighbour look isolated.
        again = (np.tril(squared == 0, -1)).any(axis=2)
        squared[:, np.arange(size), np.arange(size)] = np.inf
        squared = np.where(again[:, None] | again[:, :, None], np.inf, squared)
        nearest = squared.argmin(axis=2)
        radii = np.sqrt(np.take_along_axis(squared, nearest[..., None], axis=2)[..., 0])
        radii[np.isinf(radii)] = 0.0  # the only one of its kind: it holds its own duplicates
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = 1 - np.take_along_axis(radii, nearest, axis=1) / radii
        ratios[radii == 0] = 0.0
        radii[again], ratios[again] = -1.0, 1.0
        order = np.argsort(radii, axis=1, kind="stable")  # the smallest ball first
        self.radii_ = np.take_along_axis(radii, order, axis=1)
        self.ratios_ = np.take_along_axis(ratios, order, axis=1)
        self.centres_ = np.take_along_axis(centres, order[..., None], axis=1)

    def _prepared(self) -> None:
        rounds, size, _ = self.centres_.shape
        if self.radii_.shape != (rounds, size) or self.ratios_.shape != (rounds, size):
            raise ValueError("centres, radii and ratios do not fit together")

    def _score_rows(self, rows: Matrix) -> Matrix:
        return sum(self._each(rows), np.zeros(len(rows))) / len(self.centres_)

    def _left_out(self, rows: Matrix) -> tuple[Matrix, None] | None:
        # Each row is judged by the samples it is not in; they must be nearly all, or scores of rows that are
        # new, which all samples judge, would vary less.
        if _SPARED * self.centres_.shape[1] > len(rows):
            return None
        total, counts = np.zeros(len(rows)), np.full(len(rows), len(self._drawn))
        for drawn, values in zip(self._drawn, self._each(rows), strict=True):
            values[drawn] = 0.0
            total += values
            counts[drawn] -= 1
        return total / np.maximum(counts, 1), None

    def _each(self, rows: Matrix) -> Iterator[Matrix]:
        """Scores (n,) of each sample."""
        squares = np.einsum("ij,ij->i", rows, rows)
        for centres, radii, ratios in zip(self.centres_, self.radii_, self.ratios_, strict=True):
            # ‖x − c‖² ≤ r² by a matrix product; its rounding is far below the edge's width.
            reach = np.where(radii < 0, -np.inf, radii**2 * _EDGE) - np.einsum("ij,ij->i", centres, centres)
            within = squares[:, None] - 2 * (rows @ centres.T) <= reach + 1e-12 * (1 + squares[:, None])
            first = within.argmax(axis=1)
            yield np.where(_taken(within, first), ratios[first], 1.0)


def _taken(within: npt.NDArray[np.bool_], first: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = within[np.arange(len(within)), first]
    return found
