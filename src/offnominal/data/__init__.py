"""Readers and lazy sources: images and tables so far."""

from offnominal.data import split
from offnominal.data.decode import decode
from offnominal.data.image_source import ImageSource, images
from offnominal.data.limits import Limits
from offnominal.data.pixels import PixelRange, pixel_range, to_rgb
from offnominal.data.reading import prefetch
from offnominal.data.resizing import resize, resize_map
from offnominal.data.sources import open_source
from offnominal.data.tables import Sql, TableSource, tables
from offnominal.data.tiling import blend, tiles

__all__ = [
    "ImageSource",
    "Limits",
    "PixelRange",
    "Sql",
    "TableSource",
    "blend",
    "decode",
    "images",
    "open_source",
    "pixel_range",
    "prefetch",
    "resize",
    "resize_map",
    "split",
    "tables",
    "tiles",
    "to_rgb",
]
