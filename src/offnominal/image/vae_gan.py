"""VAE-GAN: reconstruction by a variational auto-encoder that an adversary keeps sharp (S043)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from offnominal.core.card import card
from offnominal.image.features import Features
from offnominal.image.pixels import PixelImageDetector
from offnominal.image.trained import Budget

if TYPE_CHECKING:
    import torch


@card(
    "vae_gan",
    row="S043",
    title="Can I trust my anomaly detection system? A case study based on explainable AI",
    year=2024,
    url="https://arxiv.org/abs/2407.19951",
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
class VAEGAN(PixelImageDetector):
    """Errors of a reconstruction that has to look real; ``offnominal audit trust`` checks what they rest on.

    Parameters
    ----------
    latent : int, default 64
        Length of the code.
    beta : float, default 0.0001
        Weight of the divergence, in nats, beside the mean squared error of pixels in [−1, 1].
    likeness : float, default 0.1
        Weight of the difference of the adversary's features of image and reconstruction; 0 leaves it out.
    adversarial : float, default 0.01
        Weight of the adversary's verdict; 0 leaves a plain VAE, with likeness or without.
    image_size : int, default 128
        Side of the square the images are scaled to, in pixels; a multiple of 16.
    budget : {"cpu", "paper"}
        Fills ``width``, ``steps``, ``batch`` and ``rate`` where they are None.
    width : int, optional
        Channels of the first of four levels of each network; the next have 2, 4 and 4 times as many.
    steps : int, optional
        Optimiser steps of each side.
    batch : int, optional
        Images a step.
    rate : float, optional
        Adam's learning rate.
    smoothing : float, default 2.0
        Standard deviation of the map's Gaussian smoothing, in model pixels. The image score is the
        map's peak.
    memory_budget : int, default 512
        Mebibytes of images held while fitting.
    tile : int, optional
        Cut larger images into overlapping square tiles of this side.
    seed : int, default 0

    Notes
    -----
    Likeness is measured on the adversary's layer before the last, as in VAE-GAN, and on pixels as well: the
    score is the error of pixels, and without that term nothing holds colours in place.
    The case study gives no weights and no sizes of its networks; those here are this project's. "cpu"
    trains narrow networks briefly: reconstructions are smoother than after "paper".

    Sources: Rashid, Amparore, Ferrari & Verda, 2024 (the detector); Larsen et al., "Autoencoding beyond
    pixels using a learned similarity metric", ICML 2016 (the losses).
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {"width": 16, "steps": 1000, "batch": 8, "rate": 1e-3},
        "paper": {"width": 64, "steps": 40_000, "batch": 32, "rate": 3e-4},
    }

    def __init__(
        self,
        latent: int = 64,
        beta: float = 0.0001,
        likeness: float = 0.1,
        adversarial: float = 0.01,
        image_size: int = 128,
        budget: Budget = "cpu",
        width: int | None = None,
        steps: int | None = None,
        batch: int | None = None,
        rate: float | None = None,
        smoothing: float = 2.0,
        memory_budget: int = 512,
        tile: int | None = None,
        seed: int = 0,
    ) -> None:
        self.latent = latent
        self.beta = beta
        self.likeness = likeness
        self.adversarial = adversarial
        self.image_size = image_size
        self.budget = budget
        self.width = width
        self.steps = steps
        self.batch = batch
        self.rate = rate
        self.smoothing = smoothing
        self.memory_budget = memory_budget
        self.tile = tile
        self.seed = seed

    def _train(self, features: Features) -> torch.nn.Module:
        import torch

        from offnominal.image.networks.vae_gan import AdversarialVAE, Scored
        from offnominal.nets.schedules import cosine
        from offnominal.nets.seeding import seeded

        width, rate = int(self._setting("width")), float(self._setting("rate"))
        with seeded(self.seed, "network"):
            network = AdversarialVAE(
                (width, 2 * width, 4 * width, 4 * width),
                self.image_size,
                self.latent,
                beta=self.beta,
                likeness=self.likeness,
                adversarial=self.adversarial,
            )
        steps = {"reconstruction": network.loss}
        optimisers = {"reconstruction": torch.optim.Adam(network.vae.parameters(), rate)}
        if self.likeness or self.adversarial:
            steps["adversary"] = network.adversary_loss
            optimisers["adversary"] = torch.optim.Adam(
                network.adversary.parameters(), rate / 2, betas=(0.5, 0.999)
            )
        self._run(
            network.train(),
            steps,
            self._draws(features, int(self._setting("batch"))),
            optimisers,
            steps=int(self._setting("steps")),
            schedule=cosine(0.02),
        )
        return Scored(network.vae, self.image_size, self.smoothing)
