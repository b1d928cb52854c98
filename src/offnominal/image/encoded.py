"""Image detectors that stand on a frozen encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from offnominal.encoders import ImageEncoder, image_encoder
from offnominal.encoders.heads import Head
from offnominal.image.detector import ImageDetector

Precision = Literal["auto", "fp32", "bf16"]


class EncodedImageDetector(ImageDetector):
    """Base of image detectors that score features of a frozen encoder.

    A method has the constructor arguments ``encoder``, ``levels``, ``runtime``, ``precision`` and ``weights``
    beside those of `ImageDetector`, and says which head it puts on the encoder.
    """

    encoder: str
    levels: tuple[int | str, ...] | None
    runtime: str
    precision: Precision
    weights: str | None = None

    def _head(self) -> Head:
        """What is made of the encoder's levels."""
        raise TypeError(f"{type(self).__name__} does not say what it makes of the encoder's levels")

    def _levels(self) -> Sequence[int | str] | None:
        """Levels to take; None for the encoder's own default."""
        return self.levels

    @property
    def features(self) -> ImageEncoder:
        """The encoder with this method's head."""
        return image_encoder(
            self.encoder,
            levels=self._levels(),
            size=self.image_size,
            runtime=self.runtime,
            precision=self.precision,
            head=self._head(),
            weights=self.weights,
        )

    def _environment(self) -> dict[str, Any]:
        encoder = self.features
        return {
            "encoder": encoder.name,
            "weights": encoder.fingerprint,
            "runtime": encoder.runtime,
            "precision": encoder.precision,
        }
