"""Mean-shifted contrastive learning: fine-tune an encoder about the mean of the normals (S024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from offnominal.core.card import card
from offnominal.encoders import PoolHead
from offnominal.image.encoded import Precision
from offnominal.image.features import Features
from offnominal.image.finetuned import FineTunedImageDetector
from offnominal.image.trained import Budget

if TYPE_CHECKING:
    import torch


@card(
    "mean_shifted",
    row="S024",
    title="Mean-Shifted Contrastive Loss for Anomaly Detection",
    year=2023,
    url="https://arxiv.org/abs/2106.03844",
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
class MeanShifted(FineTunedImageDetector):
    """An encoder fine-tuned so that normal images come together, and distances to the nearest of them.

    For images that are off as a whole, another class of object say; image-level only.

    Parameters
    ----------
    encoder : str, default "efficientnet_lite2"
        Pretrained image encoder.
    levels : tuple of int or str, default ("pooled",)
        Levels averaged over the image and joined: the embedding.
    image_size : int, default 224
        Side of the square the images are scaled to, in pixels.
    shifted : bool, default True
        Contrast about the mean; False about the origin, which is the plain contrastive loss (ablation).
    angular : float, default 1.0
        Weight of the squared distance to the mean; 0 leaves it out.
    temperature : float, default 0.25
        Of the contrast.
    neighbours : int, default 2
        Nearest normal images whose distances are added.
    frozen : str or None, default "6"
        Level of the encoder up to which nothing is trained; None trains all of it.
    bank_size : int, default 10000
        Embeddings of normal images kept to compare with; a coreset of them beyond that.
    budget : {"cpu", "paper"}
        Fills ``steps``, ``batch`` and ``rate`` where they are None.
    steps : int, optional
        Optimiser steps.
    batch : int, optional
        Images a step, in two views each.
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
    The centre is the normalised mean of the normals' embeddings by the encoder as it comes, taken once. Batch
    statistics stay those of pretraining. The score is taken on the embeddings, not on the shifted ones.

    Differences from the paper: EfficientNet-Lite2, frozen up to the end of its stride-8 stage, instead of
    ResNet-152, frozen up to its second stage; hue is not jittered. With "cpu" the steps are few and the rate
    is higher to match.

    Published: 98.6 AUROC on one-class CIFAR-10.

    Source: Reiss & Hoshen, AAAI 2023.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {"steps": 40, "batch": 8, "rate": 1e-3},
        "paper": {"steps": 2_000, "batch": 64, "rate": 1e-5},
    }

    def __init__(
        self,
        encoder: str = "efficientnet_lite2",
        levels: tuple[int | str, ...] = ("pooled",),
        image_size: int = 224,
        shifted: bool = True,
        angular: float = 1.0,
        temperature: float = 0.25,
        neighbours: int = 2,
        frozen: str | None = "6",
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
        self.shifted = shifted
        self.angular = angular
        self.temperature = temperature
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

    def _head(self) -> PoolHead:
        return PoolHead()

    def _train(self, features: Features) -> torch.nn.Module:
        import torch

        from offnominal.image.networks.augmentation import RandomViews
        from offnominal.image.networks.mean_shifted import (
            Embedding,
            NearestEmbeddings,
            contrast,
            mean_shifted,
            unit,
        )
        from offnominal.nets.batches import minibatches

        (rows,) = features.take(range(features.count))
        centre = unit(unit(torch.from_numpy(rows)).mean(0))
        embed = Embedding(self.features.module())
        moved = self._freeze(embed.encoder)
        views = RandomViews()

        def step(pixels: torch.Tensor) -> torch.Tensor:
            found = embed(views(torch.cat([pixels, pixels])))
            about, near = mean_shifted(found, centre.to(found.device), self.temperature)
            if not self.shifted:
                about = contrast(found, self.temperature)
            return about + self.angular * near

        self._run(
            embed.eval(),
            step,
            minibatches(
                features.count,
                min(features.count, int(self._setting("batch"))),
                lambda indices, random: features.pixels(indices),
            ),
            torch.optim.SGD(moved, float(self._setting("rate")), momentum=0.9, weight_decay=5e-5),
            steps=int(self._setting("steps")),
            frozen=[views],
        )
        bank = np.ascontiguousarray(self._embeddings(features, embed))
        return NearestEmbeddings(embed, torch.from_numpy(bank), self.neighbours)
