"""Random projection outlyingness behind a network, for vectors (S056)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.core.errors import ExtraMissing
from offnominal.normality.outlyingness import ProjectionOutlyingness, unit_directions
from offnominal.table.blocks import Matrix
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling

LEAK = 0.1  # that of `nets.outlyingness`, which is imported with torch only


@card(
    "deep_rpo",
    row="S056",
    title="Deep Random Projection Outlyingness for Unsupervised Anomaly Detection",
    year=2021,
    url="https://arxiv.org/abs/2106.15307",
    kind="detector",
    modality="table",
    setting=("full-shot", "multi-class"),
    supervision="normal-only",
    scope="item",
    localises=False,
    trains=True,
    explains=("none",),
    extra="torch",
)
class DeepRPO(TableDetector):
    """A network that brings normal rows close to their median in all random views, and the views' mean.

    Parameters
    ----------
    projections : int, default 1000
        Random directions; drawn once, never trained.
    aggregate : {"mean", "max"}, default "mean"
        Over the directions, at detection; training minimises the mean.
    hidden : tuple of int, default (128, 64)
        Widths of the layers before the code.
    latent : int, default 32
        Width of the code.
    budget : {"cpu", "paper"}, default "cpu"
        Fills the following where they are None.
    steps, batch : int, optional
        Optimiser steps, and rows in each.
    rate : float, optional
        Adam's learning rate.
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    Medians and median absolute deviations are those of the batch while training, with gradients through both
    and a floor under the latter, so that shrinking the codes gains nothing; those of all training codes are
    stored for detection, which runs without torch. Training is quick and rows are many: the decision rests
    on cross-fitting, six trainings in all.

    Difference from the paper, which is about images: layers are dense. The image detector of the same name
    does the same on the features of an encoder.

    Source: Bauw, Velasco-Forero, Angulo, Adnet & Airiau, 2021.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {"steps": 300, "batch": 256, "rate": 1e-3},
        "paper": {"steps": 20_000, "batch": 256, "rate": 1e-4},
    }

    def __init__(
        self,
        projections: int = 1_000,
        aggregate: Literal["mean", "max"] = "mean",
        hidden: tuple[int, ...] = (128, 64),
        latent: int = 32,
        budget: Literal["cpu", "paper"] = "cpu",
        steps: int | None = None,
        batch: int | None = None,
        rate: float | None = None,
        scaling: Scaling = "standard",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.projections = projections
        self.aggregate = aggregate
        self.hidden = hidden
        self.latent = latent
        self.budget = budget
        self.steps = steps
        self.batch = batch
        self.rate = rate
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    layers_: dict[str, npt.NDArray[Any]]
    medians_: Matrix
    spreads_: Matrix
    _measure: ProjectionOutlyingness

    def _setting(self, name: str) -> Any:
        """The parameter of that name, or where it is None the budget's."""
        given = getattr(self, name)
        return self.PRESETS[self.budget][name] if given is None else given

    def _learn_rows(self, rows: Matrix) -> None:
        if self.budget not in self.PRESETS:
            raise ValueError(f"budget must be {' or '.join(self.PRESETS)}, got {self.budget!r}")
        if find_spec("torch") is None or find_spec("lightning_fabric") is None:
            raise ExtraMissing("torch", f"training {self.card.name}")
        from functools import partial

        from offnominal.nets.arrays import to_arrays
        from offnominal.nets.devices import torch_threads
        from offnominal.nets.outlyingness import train_outlyingness
        from offnominal.nets.training import train

        directions = unit_directions(self.latent, self.projections, seed=self.seed)
        with torch_threads():
            network = train_outlyingness(
                rows.astype(np.float32),
                directions,
                hidden=self.hidden,
                steps=int(self._setting("steps")),
                batch=int(self._setting("batch")),
                rate=float(self._setting("rate")),
                seed=self.seed,
                run=partial(train, seed=self.seed, label=f"Training {self.card.name}"),
            )
        learned = to_arrays(network)
        self.layers_ = {name: learned[name] for name in ("mean", "rate")}
        for number in range(len(network.layers)):
            self.layers_[f"layer{number}"] = learned[f"layers.{number}.weight"]
        measure = ProjectionOutlyingness.of(self._codes(rows), directions)
        self.medians_, self.spreads_ = measure.medians, measure.spreads

    def _prepared(self) -> None:
        if self.layers_["layer0"].shape[1] != self.encoding.width:
            raise ValueError("network and encoding do not fit together")
        directions = unit_directions(self.latent, self.projections, seed=self.seed)
        self._measure = ProjectionOutlyingness(directions, self.medians_, self.spreads_)

    def _codes(self, rows: Matrix) -> Matrix:
        """Codes (n, latent) of rows (n, width)."""
        values: Matrix = (rows - self.layers_["mean"]) * self.layers_["rate"]
        for number in range(len(self.hidden) + 1):
            if number:
                values = np.where(values > 0, values, LEAK * values)
            values = values @ self.layers_[f"layer{number}"].T.astype(np.float64)
        return values

    def _score_rows(self, rows: Matrix) -> Matrix:
        apart = np.abs(self._measure(self._codes(rows)))
        found: Matrix = apart.max(axis=1) if self.aggregate == "max" else apart.mean(axis=1)
        return found
