"""SLAD: the size of a part of a row, told from its values alone (S022)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.core.seeds import generator
from offnominal.table.blocks import Matrix
from offnominal.table.dense import Layers, check_layers, dense, fit_dense, forward, layers_of
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling

_SIZES = 50  # different sizes of parts, at most
_WEIGHTED = 50  # columns from which on all weigh alike
_MAGNIFIED = 200
_ROWS = 1_024


@card(
    "slad",
    row="S022",
    title="Fascinating Supervisory Signals and Where to Find Them: Deep Anomaly Detection with Scale "
    "Learning",
    year=2023,
    url="https://arxiv.org/abs/2305.16114",
    kind="detector",
    modality="table",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    trains=True,
    explains=("none",),
    extra="torch",
)
class SLAD(TableDetector):
    """A network learns to rank random parts of a row by their size; it fails on rows that are off.

    Parameters
    ----------
    groups : int, default 20
        Groups of parts that a score is the mean over.
    parts : int, default 10
        Parts of a row that are ranked together.
    width : int, default 128
        Numbers that each part is brought to by a fixed random map, one a size.
    hidden : int, default 100
    weighted : bool, default True
        Whether a column counts for a part's size by how much it correlates with the others (fewer than 50
        columns); else each counts as one.
    steps : int, default 800
    batch : int, default 128
        Rows in a step, each with the same group of parts.
    rate : float, default 0.001
        Adam's learning rate; falls to a twentieth.
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    A part is a random subset of the columns; its size label is the sum of its columns' weights over
    ``width``,
    times 200. The labels of a group, soft-maxed, are what the network's soft-maxed numbers are to equal; loss
    and score are the Jensen–Shannon divergence. The authors' code passes the soft-maxed numbers through
    another log-soft-max; here it is the divergence of the paper.

    Training is quick and rows are many: the decision rests on cross-fitting, six trainings in all. A row
    costs O(groups·parts·d·hidden); detection runs without torch.

    Source: Xu, Wang, Wei, Pang, Jian & Wang, ICML 2023.
    """

    def __init__(
        self,
        groups: int = 20,
        parts: int = 10,
        width: int = 128,
        hidden: int = 100,
        weighted: bool = True,
        steps: int = 800,
        batch: int = 128,
        rate: float = 1e-3,
        scaling: Scaling = "standard",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.groups = groups
        self.parts = parts
        self.width = width
        self.hidden = hidden
        self.weighted = weighted
        self.steps = steps
        self.batch = batch
        self.rate = rate
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    layers_: Layers
    weights_: Matrix
    _columns: list[npt.NDArray[np.intp]]
    _maps: dict[int, Matrix]
    _goals: Matrix

    def _learn_rows(self, rows: Matrix) -> None:
        self.weights_ = self._weights_of(rows)
        self._draw()
        network = dense([self.width, self.hidden, 1], bias=True, seed=self.seed, name=self.card.name)
        import torch  # there, or dense would have said so

        goals = torch.from_numpy(self._goals.astype(np.float32))
        maps = {size: torch.from_numpy(drawn.astype(np.float32)) for size, drawn in self._maps.items()}

        def loss(batch: torch.Tensor) -> torch.Tensor:
            group = int(torch.randint(self.groups, ()))
            parts = self._columns[group * self.parts : (group + 1) * self.parts]
            views = torch.stack([batch[:, part] @ maps[len(part)] for part in parts], dim=1)
            found, wanted = network(views)[..., 0].log_softmax(dim=1), goals[group]
            middle = torch.log((found.exp() + wanted) / 2 + 1e-12)
            halves = (found.exp() * (found - middle) + torch.xlogy(wanted, wanted) - wanted * middle) / 2
            mean: torch.Tensor = halves.sum(dim=1).mean()
            return mean

        fit_dense(
            network,
            loss,
            rows,
            steps=self.steps,
            batch=self.batch,
            rate=self.rate,
            decay=0.0,
            seed=self.seed,
            name=self.card.name,
        )
        self.layers_ = layers_of(network)

    def _weights_of(self, rows: Matrix) -> Matrix:
        """How much each column counts, in [0, 1]."""
        columns = rows.shape[1]
        if not self.weighted or columns >= _WEIGHTED or columns < 3:
            return np.ones(columns)
        centred = rows - rows.mean(axis=0)
        lengths = np.sqrt((centred**2).sum(axis=0))
        unit = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 0)
        alike = np.abs(unit.T @ unit)
        mean = (alike.sum(axis=0) - np.diag(alike)) / (columns - 1)
        reach = mean.max() - mean.min()
        found: Matrix = (mean - mean.min()) / reach if reach > 0 else np.ones(columns)
        return found

    def _draw(self) -> None:
        """Draw parts and maps, and what the network is to say of them; all depend on the seed only."""
        columns = len(self.weights_)
        random = generator(self.seed, "slad")
        sizes = random.choice(np.arange(1, columns + 1), min(columns, _SIZES), replace=False)
        self._maps = {}
        for size in sorted(sizes.tolist()):
            reach = size**-0.5
            self._maps[size] = random.uniform(-reach, reach, (size, self.width))
        drawn = random.choice(sizes, self.groups * self.parts)
        self._columns = [random.choice(columns, int(size), replace=False) for size in drawn]
        labels = np.array([self.weights_[part].sum() for part in self._columns]) / self.width * _MAGNIFIED
        self._goals = _softmax(labels.reshape(self.groups, self.parts))

    def _prepared(self) -> None:
        if self.weights_.shape != (self.encoding.width,):
            raise ValueError("weights and encoding do not fit together")
        check_layers(self.layers_, [self.width, self.hidden, 1])
        self._draw()

    def _score_rows(self, rows: Matrix) -> Matrix:
        found = np.empty(len(rows))
        for first in range(0, len(rows), _ROWS):
            some = rows[first : first + _ROWS]
            sizes = np.empty((len(some), len(self._columns)))
            for at, part in enumerate(self._columns):
                sizes[:, at] = forward(self.layers_, some[:, part] @ self._maps[len(part)])[:, 0]
            said = _softmax(sizes.reshape(len(some), self.groups, self.parts))
            found[first : first + _ROWS] = divergence(said, self._goals).mean(axis=1)
        return found


def divergence(p: Matrix, q: Matrix) -> Matrix:
    """Jensen–Shannon divergence over the last axis, in [0, log 2]."""
    middle = (p + q) / 2

    def relative(one: Matrix) -> Matrix:
        logs = np.log(np.maximum(one, 1e-300)) - np.log(np.maximum(middle, 1e-300))
        found: Matrix = (one * logs).sum(axis=-1)
        return found

    return (relative(p) + relative(q)) / 2


def _softmax(values: Matrix) -> Matrix:
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    found: Matrix = powers / powers.sum(axis=-1, keepdims=True)
    return found
