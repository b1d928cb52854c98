"""FOD: correlations of patches within the image and to normal ones, beside reconstruction (S038)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from offnominal.core.card import card
from offnominal.encoders.heads import Addition
from offnominal.encoders.image import network
from offnominal.image.encoded import Precision
from offnominal.image.features import Features
from offnominal.image.maps import operator
from offnominal.image.trained import Budget, TrainedImageDetector

if TYPE_CHECKING:
    import torch

BRANCHES = {"both": ("intra", "inter"), "intra": ("intra",), "inter": ("inter",)}


@dataclass(frozen=True)
class _Levels:
    """The encoder's levels as they are."""

    def extend(self, levels: Sequence[str], shapes: Any) -> Addition:
        return Addition((), tuple(levels), {})


@card(
    "fod",
    row="S038",
    title="Focus the Discrepancy: Intra- and Inter-Correlation Learning for Image Anomaly Detection",
    year=2023,
    url="https://arxiv.org/abs/2308.02983",
    kind="detector",
    modality="image",
    setting=("full-shot", "multi-class"),
    supervision="normal-only",
    scope="item",
    localises=True,
    trains=True,
    explains=("reconstruction", "attention"),
    extra="torch",
)
class FOD(TrainedImageDetector):
    """Reconstruction by a transformer, weighed by how a patch relates to its own image and to normal ones.

    Parameters
    ----------
    encoder : str, default "efficientnet_lite2"
        Frozen image encoder.
    levels : tuple of int or str, optional
        Levels of the encoder with a transformer each; None takes the two default ones that are finest, with
        "paper" a finer first one where the encoder is EfficientNet-Lite2.
    image_size : int, default 256
        Side of the square the images are scaled to, in pixels.
    branches : {"both", "intra", "inter"}, default "both"
        Correlations within the image, to the reference of normals, or both.
    fuse : bool, default True
        Weigh the reconstruction error by the correlations.
    match : float, default 0.5
        Weight λ1 of the divergence of correlations and targets; 0 leaves it out.
    spread : float, default 0.5
        Weight λ2 of the entropy constraint; 0 leaves it out.
    budget : {"cpu", "paper"}
        Fills ``width``, ``heads``, ``depth``, ``steps``, ``batch`` and ``rate`` where they are None.
    width, heads, depth : int, optional
        Channels, attention heads and layers of each transformer.
    steps : int, optional
        Optimiser steps.
    batch : int, optional
        Images a step.
    rate : float, optional
        Adam's learning rate.
    smoothing : float, default 4.0
        Standard deviation of the map's Gaussian smoothing, in model pixels.
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
    The reference of normals is the mean map of the training images, one for each product the source names; an
    image takes the one nearest to its mean features, so that products need no names at test time.

    Differences from the paper: EfficientNet-Lite2; features brought to mean 0 and deviation 1 a channel; the
    two steps a batch share one pass and one update; the correlation terms of the two branches are added. The
    number of steps is fixed: the authors' code picks the epoch on the test set.

    Source: Yao et al., ICCV 2023.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {"width": 128, "heads": 4, "depth": 3, "steps": 200, "batch": 4, "rate": 1e-3},
        "paper": {"width": 512, "heads": 8, "depth": 3, "steps": 10_000, "batch": 8, "rate": 1e-4},
    }

    def __init__(
        self,
        encoder: str = "efficientnet_lite2",
        levels: tuple[int | str, ...] | None = None,
        image_size: int = 256,
        branches: Literal["both", "intra", "inter"] = "both",
        fuse: bool = True,
        match: float = 0.5,
        spread: float = 0.5,
        budget: Budget = "cpu",
        width: int | None = None,
        heads: int | None = None,
        depth: int | None = None,
        steps: int | None = None,
        batch: int | None = None,
        rate: float | None = None,
        smoothing: float = 4.0,
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
        self.branches = branches
        self.fuse = fuse
        self.match = match
        self.spread = spread
        self.budget = budget
        self.width = width
        self.heads = heads
        self.depth = depth
        self.steps = steps
        self.batch = batch
        self.rate = rate
        self.smoothing = smoothing
        self.memory_budget = memory_budget
        self.tile = tile
        self.runtime = runtime
        self.precision = precision
        self.weights = weights
        self.seed = seed

    def _levels(self) -> tuple[int | str, ...]:
        if self.levels is not None:
            return self.levels
        if self.budget == "paper" and self.encoder == "efficientnet_lite2":
            return ("6", "14")
        return network(self.encoder).levels[:2]

    def _head(self) -> _Levels:
        return _Levels()

    def _train(self, features: Features) -> torch.nn.Module:
        import torch

        from offnominal.image.networks.fod import CorrelationFormer, Scorer, loss
        from offnominal.image.networks.standard import Standard
        from offnominal.nets.batches import minibatches
        from offnominal.nets.schedules import cosine
        from offnominal.nets.seeding import seeded

        formers = []
        with seeded(self.seed, "network"):
            for level, references in enumerate(self._references(features)):
                formers.append(
                    CorrelationFormer(
                        Standard(features.means[level], features.deviations[level]),
                        torch.from_numpy(references),
                        width=self._setting("width"),
                        heads=self._setting("heads"),
                        depth=self._setting("depth"),
                        branches=BRANCHES[self.branches],
                    )
                )
        models = {f"level{level}": former.train() for level, former in enumerate(formers)}

        def step(batch: list[torch.Tensor]) -> torch.Tensor:
            each = [loss(*pair, self.match, self.spread) for pair in zip(formers, batch, strict=True)]
            return torch.stack(each).sum()

        moved = [parameter for former in formers for parameter in former.parameters()]
        self._run(
            models,
            step,
            minibatches(
                features.count,
                min(features.count, self._setting("batch")),
                lambda indices, random: features.take(indices),
            ),
            torch.optim.Adam(moved, self._setting("rate")),
            steps=self._setting("steps"),
            schedule=cosine(0.1, warmup=0.05),
            clip=1.0,
        )
        grids = [(shape[0], shape[1]) for shape in features.shapes]
        sides = [operator(rows, self.image_size, self.image_size, self.smoothing) for rows, _ in grids]
        return Scorer(formers, grids, [torch.tensor(side) for side in sides], fuse=self.fuse)

    def _references(self, features: Features) -> list[np.ndarray[Any, Any]]:
        """Mean map of each product (r, h, w, c), for each level."""
        named = np.array([product or "" for product in features.products])
        found: list[list[Any]] = [[] for _ in features.shapes]
        for product in np.unique(named):
            views = np.flatnonzero(named == product)
            for level, shape in enumerate(features.shapes):
                found[level].append(np.zeros(shape))
            for start in range(0, len(views), 16):
                for level, block in enumerate(features.take(views[start : start + 16])):
                    found[level][-1] += block.sum(axis=0, dtype=np.float64) / len(views)
        return [np.stack(maps).astype(np.float32) for maps in found]
