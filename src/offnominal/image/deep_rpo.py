"""Random projection outlyingness behind a network, for images (S056)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from offnominal.core.card import card
from offnominal.encoders import PoolHead
from offnominal.image.encoded import Precision
from offnominal.image.features import Features
from offnominal.image.trained import Budget, TrainedImageDetector
from offnominal.normality.outlyingness import ProjectionOutlyingness, unit_directions

if TYPE_CHECKING:
    import torch


@card(
    "deep_rpo",
    row="S056",
    title="Deep Random Projection Outlyingness for Unsupervised Anomaly Detection",
    year=2021,
    url="https://arxiv.org/abs/2106.15307",
    kind="detector",
    modality="image",
    setting=("full-shot", "multi-class"),
    supervision="normal-only",
    scope="item",
    localises=False,
    trains=True,
    explains=("none",),
    extra="torch",
)
class DeepRPO(TrainedImageDetector):
    """A network that brings normal images close to their median in all random views of its code.

    Parameters
    ----------
    encoder : str, default "efficientnet_lite2"
        Frozen image encoder.
    levels : tuple of int or str, default ("pooled",)
        Levels averaged over the image and joined.
    image_size : int, default 256
        Side of the square the images are scaled to, in pixels.
    projections : int, default 1000
        Random directions; drawn once, never trained.
    hidden : tuple of int, default (256,)
        Widths of the layers before the code.
    latent : int, default 128
        Width of the code.
    budget : {"cpu", "paper"}
        Fills ``steps``, ``batch`` and ``rate`` where they are None.
    steps, batch : int, optional
        Optimiser steps, and images in each.
    rate : float, optional
        Adam's learning rate.
    memory_budget : int, default 512
        Mebibytes of features held while fitting.
    tile : int, optional
        Cut larger images into overlapping square tiles of this side.
    runtime, precision : str, default "auto"
        Runtime and precision of the encoder.
    weights : str, optional
        File or folder of the encoder's weights, or "random"; None takes those that are installed.
    seed : int, default 0

    Notes
    -----
    The score is the mean over random directions u of |uᵀφ(x) − median| / median absolute deviation; training
    minimises it over the normal images. The classical score takes the largest instead of the mean: see the
    table detectors "rpo" and "deep_rpo", which can do both.

    Difference from the paper: the network stands on the pooled features of a frozen encoder, where the
    paper's small convolutional ones start from pixels of 28 or 32 a side.

    Source: Bauw, Velasco-Forero, Angulo, Adnet & Airiau, 2021.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {"steps": 300, "batch": 128, "rate": 1e-3},
        "paper": {"steps": 20_000, "batch": 128, "rate": 1e-4},
    }

    def __init__(
        self,
        encoder: str = "efficientnet_lite2",
        levels: tuple[int | str, ...] = ("pooled",),
        image_size: int = 256,
        projections: int = 1_000,
        hidden: tuple[int, ...] = (256,),
        latent: int = 128,
        budget: Budget = "cpu",
        steps: int | None = None,
        batch: int | None = None,
        rate: float | None = None,
        memory_budget: int = 512,
        tile: int | None = None,
        runtime: str = "auto",
        precision: Precision = "auto",
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        self.encoder = encoder
        self.levels = levels
        self.image_size = image_size
        self.projections = projections
        self.hidden = hidden
        self.latent = latent
        self.budget = budget
        self.steps = steps
        self.batch = batch
        self.rate = rate
        self.memory_budget = memory_budget
        self.tile = tile
        self.runtime = runtime
        self.precision = precision
        self.weights = weights
        self.seed = seed

    def _head(self) -> PoolHead:
        return PoolHead()

    def _train(self, features: Features) -> torch.nn.Module:
        import torch

        from offnominal.nets.outlyingness import train_outlyingness

        (rows,) = features.take(range(features.count))
        directions = unit_directions(self.latent, self.projections, seed=self.seed)
        network = train_outlyingness(
            rows,
            directions,
            hidden=self.hidden,
            steps=int(self._setting("steps")),
            batch=int(self._setting("batch")),
            rate=float(self._setting("rate")),
            seed=self.seed,
            run=self._run,
        )
        with torch.inference_mode():
            codes = network.encode(torch.from_numpy(rows)).numpy().astype(np.float64)
        measure = ProjectionOutlyingness.of(codes, directions)
        # of single-precision codes: what is nearer than their rounding is as good as equal
        least = 1e-5 * max(float(np.abs(codes).max()), 1e-3)
        network.medians = torch.tensor(measure.medians, dtype=torch.float32)
        network.spreads = torch.tensor(np.maximum(measure.spreads, least), dtype=torch.float32)
        return network
