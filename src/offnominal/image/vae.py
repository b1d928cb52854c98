"""Variational auto-encoder on pixels, with the study's scores (S005)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from offnominal.core.card import card
from offnominal.image.features import Features
from offnominal.image.pixels import PixelImageDetector
from offnominal.image.trained import Budget

if TYPE_CHECKING:
    import torch

Score = Literal["reconstruction", "elbo_gradient", "kl_gradient", "reconstruction_gradient", "combined"]


@card(
    "vae",
    row="S005",
    title="MedIAnomaly: A comparative study of anomaly detection in medical images",
    year=2024,
    url="https://arxiv.org/abs/2404.04518",
    kind="detector",
    modality="image",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    localises=True,
    trains=True,
    explains=("reconstruction", "gradient"),
    extra="torch",
)
class VariationalAutoencoder(PixelImageDetector):
    """An auto-encoder whose codes follow a Gaussian; scores by reconstruction or by gradients of its bound.

    Parameters
    ----------
    latent : int, default 16
        Length of the code.
    score : str, default "reconstruction"
        The map, whose mean is the image's score: "reconstruction" (squared difference of pixels); the
        absolute gradient, by each pixel, of the divergence of the code from its prior ("kl_gradient"), of the
        squared error ("reconstruction_gradient"), or of their weighted sum ("elbo_gradient"); "combined" is
        the absolute difference times the gradient of the divergence.
    beta : float, default 0.001
        Weight of the divergence, in nats, beside the mean squared error of pixels in [−1, 1].
    image_size : int, default 64
        Side of the square the images are scaled to, in pixels; a multiple of 16.
    width : int, default 16
        Channels of the first of four levels; the next have twice, four and four times as many.
    budget : {"cpu", "paper"}
        Fills ``steps``, ``batch`` and ``rate`` where they are None.
    steps : int, optional
        Optimiser steps.
    batch : int, optional
        Images a step.
    rate : float, optional
        Adam's learning rate.
    smoothing : float, default 1.0
        Standard deviation of the map's Gaussian smoothing, in model pixels.
    memory_budget : int, default 512
        Mebibytes of images held while fitting.
    tile : int, optional
        Cut larger images into overlapping square tiles of this side.
    seed : int, default 0

    Notes
    -----
    Gradients are computed by layers run backwards inside the exported graph, so they need no torch at
    detection. At detection the code is its mean.

    Differences from the study: the rate falls along a cosine, the map is smoothed, and ``beta`` is this
    project's own choice.

    Source: Cai, Zhang, Chen & Cheng, "MedIAnomaly", 2024, section 3.2; scores by gradients: Zimmerer et al.,
    "Unsupervised Anomaly Localization using Variational Auto-Encoders", 2019.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {"steps": 1500, "batch": 16, "rate": 1e-3},
        "paper": {"steps": 16_000, "batch": 64, "rate": 1e-3},
    }

    def __init__(
        self,
        latent: int = 16,
        score: Score = "reconstruction",
        beta: float = 0.001,
        image_size: int = 64,
        width: int = 16,
        budget: Budget = "cpu",
        steps: int | None = None,
        batch: int | None = None,
        rate: float | None = None,
        smoothing: float = 1.0,
        memory_budget: int = 512,
        tile: int | None = None,
        seed: int = 0,
    ) -> None:
        self.latent = latent
        self.score = score
        self.beta = beta
        self.image_size = image_size
        self.width = width
        self.budget = budget
        self.steps = steps
        self.batch = batch
        self.rate = rate
        self.smoothing = smoothing
        self.memory_budget = memory_budget
        self.tile = tile
        self.seed = seed

    def _train(self, features: Features) -> torch.nn.Module:
        import torch

        from offnominal.image.networks.vae import SCORES, VariationalScores
        from offnominal.nets.convolution import ConvDecoder, ConvEncoder
        from offnominal.nets.schedules import cosine
        from offnominal.nets.seeding import seeded
        from offnominal.nets.vae import VAE

        if self.score not in SCORES:
            raise ValueError(f"score must be {', '.join(SCORES)}, got {self.score!r}")
        widths, size = (self.width, 2 * self.width, 4 * self.width, 4 * self.width), (self.image_size,) * 2
        with seeded(self.seed, "network"):
            vae = VAE(
                ConvEncoder(3, widths, size, latent=2 * self.latent),
                ConvDecoder(3, widths, size, latent=self.latent),
            )
        network = VariationalScores(vae, self.beta, self.score)
        self._run(
            network.train(),
            network.loss,
            self._draws(features, int(self._setting("batch"))),
            torch.optim.Adam(vae.parameters(), float(self._setting("rate"))),
            steps=int(self._setting("steps")),
            schedule=cosine(0.02),
        )
        return network
