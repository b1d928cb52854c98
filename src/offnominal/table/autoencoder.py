"""Auto-encoder: what cannot be brought through a narrow network and back."""

from __future__ import annotations

from offnominal.core.card import card
from offnominal.table.blocks import Matrix
from offnominal.table.dense import Layers, check_layers, dense, fit_dense, forward, layers_of
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling


@card(
    "autoencoder",
    title="Outlier Detection Using Replicator Neural Networks",
    year=2002,
    url="https://doi.org/10.1007/3-540-46145-0_17",
    kind="detector",
    modality="table",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    localises=True,
    trains=True,
    explains=("reconstruction",),
    extra="torch",
)
class Autoencoder(TableDetector):
    """Squared error of a reconstruction through a narrow network: the curved relative of ``pca``.

    Parameters
    ----------
    hidden : tuple of int, default (64,)
        Widths of the layers before the code; those after it mirror them.
    code : int, default 8
        Width of the narrowest layer; half the columns where they are fewer.
    steps : int, default 600
    batch : int, default 128
    rate : float, default 0.003
        Adam's learning rate; falls to a twentieth.
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    Training is quick and rows are many: the decision rests on cross-fitting, six trainings in all. Cost is
    O(steps·batch·d), whatever the number of rows; detection runs without torch.

    Source: Hawkins, He, Williams & Baxter, DaWaK 2002 (the idea; the layers are today's).
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (64,),
        code: int = 8,
        steps: int = 600,
        batch: int = 128,
        rate: float = 3e-3,
        scaling: Scaling = "standard",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.hidden = hidden
        self.code = code
        self.steps = steps
        self.batch = batch
        self.rate = rate
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    layers_: Layers

    def _widths(self) -> list[int]:
        columns = self.encoding.width
        code = max(1, min(self.code, columns // 2))
        return [columns, *self.hidden, code, *self.hidden[::-1], columns]

    def _learn_rows(self, rows: Matrix) -> None:
        network = dense(self._widths(), bias=True, seed=self.seed, name=self.card.name)
        fit_dense(
            network,
            lambda batch: ((network(batch) - batch) ** 2).mean(),
            rows,
            steps=self.steps,
            batch=self.batch,
            rate=self.rate,
            decay=0.0,
            seed=self.seed,
            name=self.card.name,
        )
        self.layers_ = layers_of(network)

    def _prepared(self) -> None:
        check_layers(self.layers_, self._widths())

    def _score_rows(self, rows: Matrix) -> Matrix:
        return self._explained(rows)[0]

    def _contributions(self, rows: Matrix) -> Matrix:
        parts: Matrix = (forward(self.layers_, rows) - rows) ** 2
        return parts

    def _explained(self, rows: Matrix) -> tuple[Matrix, Matrix]:
        parts = self._contributions(rows)
        return parts.sum(axis=1), parts
