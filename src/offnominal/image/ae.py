"""Convolutional auto-encoder on pixels, by size of the code and by loss (S005)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from offnominal.core.card import card
from offnominal.image.features import Features
from offnominal.image.pixels import PixelImageDetector
from offnominal.image.trained import Budget

if TYPE_CHECKING:
    import torch

Loss = Literal["l2", "l1", "ssim", "perceptual"]


@card(
    "ae",
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
    explains=("reconstruction",),
    extra="torch",
)
class Autoencoder(PixelImageDetector):
    """What a small code cannot give back of an image was not in the normal ones: medical images, plain parts.

    The study's auto-encoders differ in the size of the code and in the loss, which is the score too. Small
    codes are the best ones: a large code gives back anomalies as well.

    Parameters
    ----------
    latent : int or None, default 16
        Length of the code; None keeps a map of features (the study's AE-Spatial), which gives back nearly
        anything.
    loss : {"l2", "l1", "ssim", "perceptual"}, default "l2"
        Squared or absolute difference of pixels, one minus their structural similarity, or squared difference
        of a frozen encoder's features.
    image_size : int, default 64
        Side of the square the images are scaled to, in pixels; a multiple of 16 (of 32 for "perceptual").
    width : int, default 16
        Channels of the first of four levels; the next have twice, four and four times as many.
    encoder : str, default "efficientnet_lite2"
        Frozen encoder of the perceptual loss.
    levels : tuple of int or str, default ("0", "3", "6")
        Its levels.
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
    weights : str, optional
        File or folder of the encoder's weights, or "random"; None takes those that are installed.
    seed : int, default 0

    Notes
    -----
    The image score is the mean error, as in the study: a defect of a few pixels hardly moves it.

    Differences from the study: the rate falls along a cosine; the perceptual loss takes squared differences
    of EfficientNet-Lite2's features, scaled by the normals' deviations, instead of relative absolute ones of
    VGG-19; the map is smoothed. "paper" is about 250 epochs of 4,000 images; "cpu" takes a tenth of
    the steps in smaller batches.

    Source: Cai, Zhang, Chen & Cheng, "MedIAnomaly", 2024, section 3.2 (reconstruction methods).
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {"steps": 1500, "batch": 16, "rate": 1e-3},
        "paper": {"steps": 16_000, "batch": 64, "rate": 1e-3},
    }

    def __init__(
        self,
        latent: int | None = 16,
        loss: Loss = "l2",
        image_size: int = 64,
        width: int = 16,
        encoder: str = "efficientnet_lite2",
        levels: tuple[int | str, ...] = ("0", "3", "6"),
        budget: Budget = "cpu",
        steps: int | None = None,
        batch: int | None = None,
        rate: float | None = None,
        smoothing: float = 1.0,
        memory_budget: int = 512,
        tile: int | None = None,
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        self.latent = latent
        self.loss = loss
        self.image_size = image_size
        self.width = width
        self.encoder = encoder
        self.levels = levels
        self.budget = budget
        self.steps = steps
        self.batch = batch
        self.rate = rate
        self.smoothing = smoothing
        self.memory_budget = memory_budget
        self.tile = tile
        self.weights = weights
        self.seed = seed

    def _train(self, features: Features) -> torch.nn.Module:
        import torch

        from offnominal.image.networks.autoencoder import Reconstruction
        from offnominal.nets.convolution import ConvDecoder, ConvEncoder
        from offnominal.nets.schedules import cosine
        from offnominal.nets.seeding import seeded

        widths, size = (self.width, 2 * self.width, 4 * self.width, 4 * self.width), (self.image_size,) * 2
        error = self._error(features)
        with seeded(self.seed, "network"):
            network = Reconstruction(
                ConvEncoder(3, widths, size, latent=self.latent),
                ConvDecoder(3, widths, size, latent=self.latent),
                error,
            )
        learned = [*network.encoder.parameters(), *network.decoder.parameters()]
        self._run(
            network.train(),
            lambda pixels: network.errors(pixels).mean(),
            self._draws(features, int(self._setting("batch"))),
            torch.optim.Adam(learned, float(self._setting("rate"))),
            steps=int(self._setting("steps")),
            schedule=cosine(0.02),
        )
        return network

    def _error(self, features: Features) -> torch.nn.Module:
        """The measure of the loss, and of the score."""
        from offnominal.image.networks import errors

        if self.loss == "perceptual":
            return errors.Perceptual(self._described(features, self.levels))
        plain = {"l2": errors.Squared, "l1": errors.Absolute, "ssim": errors.Structural}
        if self.loss not in plain:
            raise ValueError(f"loss must be {', '.join(plain)} or perceptual, got {self.loss!r}")
        return plain[self.loss]()
