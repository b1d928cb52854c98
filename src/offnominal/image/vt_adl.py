"""VT-ADL: a vision transformer reconstructs, and a mixture density over its patches localises (S063)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from offnominal.core.card import card
from offnominal.image.features import Features
from offnominal.image.pixels import PixelImageDetector
from offnominal.image.trained import Budget

if TYPE_CHECKING:
    import torch


@card(
    "vt_adl",
    row="S063",
    title="VT-ADL: A Vision Transformer Network for Image Anomaly Detection and Localization",
    year=2021,
    url="https://arxiv.org/abs/2104.10036",
    kind="detector",
    modality="image",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    localises=True,
    trains=True,
    explains=("reconstruction",),
    extra="torch",
)
class VTADL(PixelImageDetector):
    """Patches seen in the context of the whole image: reconstructed for the score, modelled for the map.

    Parameters
    ----------
    patch : int, default 32
        Side of a patch, in model pixels, a power of two.
    score : {"reconstruction", "density"}, default "reconstruction"
        The image's score: mean reconstruction error, as in the paper, or the peak of the map.
    noise : float, default 0.2
        Deviation of the noise on embeddings while the density learns; 0 for none.
    image_size : int, default 256
        Side of the square the images are scaled to, in pixels, a multiple of ``patch``.
    budget : {"cpu", "paper"}
        Fills the parameters that are None.
    width, depth, heads : int, optional
        Of the transformer.
    components : int, optional
        Gaussians of the mixture.
    channels : int, optional
        Of the decoder's finest level; coarser ones have twice as many each, up to ``width``.
    steps : int, optional
        Optimiser steps.
    batch : int, optional
        Images a step.
    rate : float, optional
        Adam's learning rate.
    smoothing : float, default 8.0
        Standard deviation of the map's Gaussian smoothing, in model pixels.
    memory_budget : int, default 512
        Mebibytes of images held while fitting.
    tile : int, optional
        Cut larger images into overlapping square tiles of this side.
    seed : int, default 0

    Notes
    -----
    The map is the negative log-density of each patch's embedding, a channel, above its 5 % quantile over
    training patches, enlarged. The density is the true mixture (log-sum-exp over components) with a floor
    under the deviations; the public code sums the components' weighted log-densities instead.

    Differences from the paper: 256 px and patches of 32 by default instead of 512 and 64, the same grid of
    8 × 8 (``image_size=512, patch=64, budget="paper"`` are the paper's); the density does not move the
    embeddings, for it would pull all of them into one place, where the likelihood is highest; the rate falls
    along a cosine. "cpu" has a narrow transformer and the public code's 10 Gaussians instead of 150.

    Source: Mishra, Verk, Fornasier, Piciarelli & Foresti, ISIE 2021.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {
            "width": 128,
            "depth": 4,
            "heads": 4,
            "components": 10,
            "channels": 8,
            "steps": 1000,
            "batch": 8,
            "rate": 1e-3,
        },
        "paper": {
            "width": 512,
            "depth": 6,
            "heads": 8,
            "components": 150,
            "channels": 32,
            "steps": 40_000,
            "batch": 8,
            "rate": 1e-4,
        },
    }

    def __init__(
        self,
        patch: int = 32,
        score: Literal["reconstruction", "density"] = "reconstruction",
        noise: float = 0.2,
        image_size: int = 256,
        budget: Budget = "cpu",
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        components: int | None = None,
        channels: int | None = None,
        steps: int | None = None,
        batch: int | None = None,
        rate: float | None = None,
        smoothing: float = 8.0,
        memory_budget: int = 512,
        tile: int | None = None,
        seed: int = 0,
    ) -> None:
        self.patch = patch
        self.score = score
        self.noise = noise
        self.image_size = image_size
        self.budget = budget
        self.width = width
        self.depth = depth
        self.heads = heads
        self.components = components
        self.channels = channels
        self.steps = steps
        self.batch = batch
        self.rate = rate
        self.smoothing = smoothing
        self.memory_budget = memory_budget
        self.tile = tile
        self.seed = seed

    def _train(self, features: Features) -> torch.nn.Module:
        import torch

        from offnominal.image.networks.errors import scaled
        from offnominal.image.networks.vt_adl import PatchDensity, Scored
        from offnominal.nets.schedules import cosine
        from offnominal.nets.seeding import seeded

        if self.score not in ("reconstruction", "density"):
            raise ValueError(f"score must be reconstruction or density, got {self.score!r}")
        if self.patch < 2 or self.patch & (self.patch - 1) or self.image_size % self.patch:
            raise ValueError(
                f"patch must be a power of two that divides image_size {self.image_size}, got {self.patch}"
            )
        names = ("width", "depth", "heads", "components", "channels")
        width, depth, heads, components, channels = (int(self._setting(name)) for name in names)
        with seeded(self.seed, "network"):
            network = PatchDensity(
                self.image_size, self.patch, width, depth, heads, components, channels, noise=self.noise
            )
        self._run(
            network.train(),
            network.loss,
            self._draws(features, int(self._setting("batch"))),
            torch.optim.Adam(network.parameters(), float(self._setting("rate"))),
            steps=int(self._setting("steps")),
            schedule=cosine(0.02, warmup=0.05),
            clip=1.0,
        )
        with torch.inference_mode():
            few = np.linspace(0, features.count - 1, min(features.count, 64)).astype(int)
            surprise = [
                network.surprise(network.embed(scaled(torch.from_numpy(features.take([view])[0]))))
                for view in few
            ]
        least = float(np.quantile(torch.cat(surprise).numpy(), 0.05))
        return Scored(network, self.image_size, self.smoothing, self.score, least)
