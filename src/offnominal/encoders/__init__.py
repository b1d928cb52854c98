"""Frozen feature extractors: their layer tables, where their weights come from, and what runs them.

`image_encoder` is the door; nothing heavy is imported before it is called.
"""

from __future__ import annotations

from offnominal.encoders.availability import Availability, available
from offnominal.encoders.heads import PatchHead, PoolHead
from offnominal.encoders.image import ImageEncoder, encoder_names, image_encoder
from offnominal.encoders.imagenet import class_names, classify

__all__ = [
    "Availability",
    "ImageEncoder",
    "PatchHead",
    "PoolHead",
    "available",
    "class_names",
    "classify",
    "encoder_names",
    "image_encoder",
]
