"""The 1000 classes of ImageNet-1k, and the classifier that every encoder here carries."""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np

from offnominal.encoders.image import DEFAULT, image_encoder
from offnominal.encoders.network import Array


@cache
def class_names() -> tuple[str, ...]:
    """Names of the classes in the order of the logits, which is the order of their WordNet ids."""
    text = resources.files("offnominal.encoders").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(line.split(" ", 1)[1] for line in text.splitlines())


def classify(pixels: Array, name: str = DEFAULT, *, top: int = 5) -> list[list[tuple[str, float]]]:
    """Name what images show, as a classifier of everyday objects sees it.

    Parameters
    ----------
    pixels : (n, h, w, 3) array of uint8, or of float32 in 0…255
    name : str
        An encoder with official weights.
    top : int, default 5
        Names an image.

    Returns
    -------
    list of list of (str, float)
        For each image, names and softmax probabilities, the likeliest first.
    """
    pixels = np.asarray(pixels)
    if pixels.ndim != 4:
        raise ValueError(f"pixels must be (n, h, w, 3), got {pixels.shape}")
    if not 1 <= top <= len(class_names()):
        raise ValueError(f"top must be 1 to {len(class_names())}, got {top}")
    encoder = image_encoder(name, levels=("logits",), size=(pixels.shape[1], pixels.shape[2]))
    (logits,) = encoder.encode(pixels)
    odds = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    order = np.argsort(-odds, axis=1, kind="stable")[:, :top]
    return [
        [(class_names()[label], float(row[label])) for label in best]
        for row, best in zip(odds, order, strict=True)
    ]
