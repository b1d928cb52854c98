"""UniCon-HA: gather inliers, spread their rotations, at several depths (S117)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from offnominal.core.card import card
from offnominal.encoders import PoolHead, image_encoder
from offnominal.image.encoded import Precision
from offnominal.image.features import Features
from offnominal.image.finetuned import FineTunedImageDetector
from offnominal.image.trained import Budget

if TYPE_CHECKING:
    import torch


@card(
    "unicon_ha",
    row="S117",
    title="Unilaterally Aggregated Contrastive Learning with Hierarchical Augmentation for Anomaly Detection",
    year=2023,
    url="https://arxiv.org/abs/2308.10155",
    kind="detector",
    modality="image",
    setting=("full-shot", "multi-class"),
    supervision="normal-only",
    scope="item",
    localises=False,
    trains=True,
    explains=("distance",),
    extra="torch",
)
class UniConHA(FineTunedImageDetector):
    """An encoder trained so that normal images come together and their rotations lie far apart.

    For images of objects that have an upright pose; where a quarter turn changes nothing, as on textures,
    rotations are no outliers and the method has nothing to learn from. Image-level only.

    Parameters
    ----------
    encoder : str, default "efficientnet_lite2"
        Image encoder; with ``weights="random"`` it is trained from scratch, as in the paper.
    levels : tuple of int or str, default ("3", "6", "14", "pooled")
        Depths at which there is a contrast, from shallow to deep, the last being the embedding.
    image_size : int, default 128
        Side of the square the images are scaled to, in pixels.
    soft : bool, default True
        Weigh each augmented inlier by how near it is to the inliers' mean.
    hierarchical : bool, default True
        Weak augmentation at shallow depths, strong at deep ones; False contrasts at the last depth only.
    outliers : bool, default True
        Rotations as virtual outliers.
    temperature : float, default 0.5
        Of the contrasts.
    projected : int, default 128
        Width of the projection heads.
    neighbours : int, default 2
        Nearest normal images whose distances are added.
    frozen : str or None, default None
        Level of the encoder up to which nothing is trained; None trains all of it.
    bank_size : int, default 10000
        Embeddings of normal images kept to compare with; a coreset of them beyond that.
    budget : {"cpu", "paper"}
        Fills ``steps``, ``batch`` and ``rate`` where they are None.
    steps : int, optional
        Optimiser steps.
    batch : int, optional
        Images a step, in four rotations and two views each, at every depth.
    rate : float, optional
        Learning rate of stochastic gradient descent.
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
    Positives of an inlier are all other inliers; the only positive of a rotated image is its own other view.
    From shallow to deep, crops keep at least 0.75, 0.54, 0.3 and 0.08 of the area, and colours change by 0.1
    to 0.4. The paper's exact weights of augmented inliers and its score are not known to us: a weight is the
    cosine to the inliers' mean in the batch over the largest one, and the score is the sum of the distances
    to the nearest normal images in the encoder's embedding.

    Other differences from the paper: a pretrained EfficientNet-Lite2 with fixed batch statistics instead of a
    ResNet-18 from scratch (about 2 000 epochs), which a CPU budget does not allow; hue is not jittered.

    Source: Wang, Wang, Qin, Zhang, Bao & Huang, ICCV 2023.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {"steps": 40, "batch": 4, "rate": 3e-2},
        "paper": {"steps": 100_000, "batch": 32, "rate": 1e-2},
    }

    def __init__(
        self,
        encoder: str = "efficientnet_lite2",
        levels: tuple[int | str, ...] = ("3", "6", "14", "pooled"),
        image_size: int = 128,
        soft: bool = True,
        hierarchical: bool = True,
        outliers: bool = True,
        temperature: float = 0.5,
        projected: int = 128,
        neighbours: int = 2,
        frozen: str | None = None,
        bank_size: int = 10_000,
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
        self.soft = soft
        self.hierarchical = hierarchical
        self.outliers = outliers
        self.temperature = temperature
        self.projected = projected
        self.neighbours = neighbours
        self.frozen = frozen
        self.bank_size = bank_size
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

    levels: tuple[int | str, ...]

    def _head(self) -> PoolHead:
        return PoolHead(join=False)

    def _train(self, features: Features) -> torch.nn.Module:
        import torch

        from offnominal.image.networks.augmentation import RandomViews
        from offnominal.image.networks.mean_shifted import NearestEmbeddings
        from offnominal.image.networks.unicon_ha import (
            Deepest,
            Stages,
            gathered,
            soft_weights,
            spread,
            turned,
        )
        from offnominal.nets.batches import minibatches
        from offnominal.nets.schedules import cosine
        from offnominal.nets.seeding import seeded

        depths = self.levels if self.hierarchical else self.levels[-1:]
        encoders = [self._up_to(level).module() for level in depths]
        widths = [shape[-1] for shape in features.shapes[-len(depths) :]]
        with seeded(self.seed, "heads"):
            stages = Stages(encoders, widths, self.projected)
        moved = [*self._freeze(encoders[-1]), *stages.heads.parameters()]
        hardness = np.linspace(0, 1, len(depths)) if len(depths) > 1 else [1.0]
        views = [
            RandomViews(0.75 * (0.08 / 0.75) ** hard, 0.1 + 0.3 * hard, 0.2 * hard, 0.0) for hard in hardness
        ]

        def step(pixels: torch.Tensor) -> torch.Tensor:
            losses = []
            twice = torch.cat([pixels, pixels])
            for stage, change in enumerate(views):
                inliers = stages(change(twice), stage)
                others = inliers[:0]
                if self.outliers:
                    around = turned(pixels)
                    others = stages(change(torch.cat([around, around])), stage)
                    losses.append(spread(others, inliers, self.temperature))
                weights = soft_weights(inliers) if self.soft else torch.ones_like(inliers[:, 0])
                losses.append(gathered(inliers, others, weights, self.temperature))
            return torch.stack(losses).sum() / len(views)

        self._run(
            stages.eval(),
            step,
            minibatches(
                features.count,
                min(features.count, int(self._setting("batch"))),
                lambda indices, random: features.pixels(indices),
            ),
            torch.optim.SGD(moved, float(self._setting("rate")), momentum=0.9, weight_decay=1e-4),
            steps=int(self._setting("steps")),
            schedule=cosine(0.0, warmup=0.05),
            frozen=views,
        )
        embed = Deepest(stages)
        return NearestEmbeddings(embed, torch.from_numpy(self._embeddings(features, embed)), self.neighbours)

    def _up_to(self, level: int | str) -> Any:
        """The encoder up to a level, averaged over the image."""
        return image_encoder(
            self.encoder, levels=(level,), size=self.image_size, head=PoolHead(), weights=self.weights
        )
