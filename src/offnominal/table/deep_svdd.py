"""Deep SVDD: a network that draws normal rows to one point."""

from __future__ import annotations

from typing import Any

import numpy as np

from offnominal.core.card import card
from offnominal.table.blocks import Matrix
from offnominal.table.dense import LEAK, Layers, check_layers, dense, fit_dense, forward, layers_of
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling

_FROM_ZERO = 0.1  # a centre at 0 would be reached by weights of 0


@card(
    "deep_svdd",
    title="Deep One-Class Classification",
    year=2018,
    url="https://proceedings.mlr.press/v80/ruff18a.html",
    kind="detector",
    modality="table",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    trains=True,
    explains=("none",),
    extra="torch",
)
class DeepSVDD(TableDetector):
    """Squared distance to a fixed centre, in a space where a network has drawn normal rows to it.

    Parameters
    ----------
    hidden : tuple of int, default (64,)
        Widths of the layers before the code. None has a bias, or all rows could fall onto the centre.
    code : int, default 32
    pretraining : int, default 300
        Steps as an auto-encoder first; the centre is the mean of the codes after them. 0: none.
    steps : int, default 300
    batch : int, default 128
    rate : float, default 0.001
        Adam's learning rate; falls to a twentieth.
    decay : float, default 1e-6
        Of the weights.
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    The one-class form, with the centre fixed. Training is quick and rows are many: the decision rests on
    cross-fitting, six trainings in all. Cost is O(steps·batch·d), whatever the number of rows; detection runs
    without torch.

    Source: Ruff et al., ICML 2018.
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (64,),
        code: int = 32,
        pretraining: int = 300,
        steps: int = 300,
        batch: int = 128,
        rate: float = 1e-3,
        decay: float = 1e-6,
        scaling: Scaling = "standard",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.hidden = hidden
        self.code = code
        self.pretraining = pretraining
        self.steps = steps
        self.batch = batch
        self.rate = rate
        self.decay = decay
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    layers_: Layers
    centre_: Matrix

    def _widths(self) -> list[int]:
        return [self.encoding.width, *self.hidden, self.code]

    def _learn_rows(self, rows: Matrix) -> None:
        network = dense(self._widths(), bias=False, seed=self.seed, name=self.card.name)
        import torch  # there, or dense would have said so

        settings: dict[str, Any] = {
            "batch": self.batch,
            "rate": self.rate,
            "decay": self.decay,
            "seed": self.seed,
        }
        if self.pretraining:
            from torch import nn

            back = dense(self._widths()[::-1], bias=False, seed=self.seed, name=f"{self.card.name} decoder")
            through = nn.Sequential(network, nn.LeakyReLU(LEAK), back)
            fit_dense(
                through,
                lambda batch: ((through(batch) - batch) ** 2).mean(),
                rows,
                steps=self.pretraining,
                name=f"{self.card.name}'s auto-encoder",
                **settings,
            )
        centre = forward(layers_of(network), rows).mean(axis=0)
        near = np.abs(centre) < _FROM_ZERO
        self.centre_ = np.where(near, np.where(centre < 0, -_FROM_ZERO, _FROM_ZERO), centre)
        goal = torch.from_numpy(self.centre_.astype(np.float32))
        fit_dense(
            network,
            lambda batch: ((network(batch) - goal) ** 2).sum(dim=1).mean(),
            rows,
            steps=self.steps,
            name=self.card.name,
            **settings,
        )
        self.layers_ = layers_of(network)

    def _prepared(self) -> None:
        check_layers(self.layers_, self._widths())
        if self.centre_.shape != (self.code,):
            raise ValueError("network and centre do not fit together")

    def _score_rows(self, rows: Matrix) -> Matrix:
        apart: Matrix = ((forward(self.layers_, rows) - self.centre_) ** 2).sum(axis=1)
        return apart
