"""Fits that see the same images again and again: images read once, encoded once. For benchmarks only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offnominal.core.source import Item, Reference
from offnominal.encoders import ImageEncoder


class Pictures:
    """A source of decoded images in memory.

    Parameters
    ----------
    name : str
    references : sequence of Reference
    pixels : sequence of ndarray (H, W, C)
    masks : sequence of ndarray (H, W) or None, optional
    """

    modality = "image"

    def __init__(
        self,
        name: str,
        references: Sequence[Reference],
        pixels: Sequence[np.ndarray],
        masks: Sequence[np.ndarray | None] | None = None,
    ) -> None:
        self.name = name
        self.references = tuple(references)
        self.pixels = list(pixels)
        self.masks = list(masks) if masks is not None else [None] * len(self.pixels)

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, position: int) -> Item:
        return Item(self.references[position], self.pixels[position])

    def mask(self, position: int) -> np.ndarray | None:
        return self.masks[position]

    def subset(self, positions: Sequence[int] | np.ndarray) -> Pictures:
        chosen = [int(at) for at in positions]
        return Pictures(
            self.name,
            [self.references[at] for at in chosen],
            [self.pixels[at] for at in chosen],
            [self.masks[at] for at in chosen],
        )


@contextlib.contextmanager
def encoded_once() -> Iterator[None]:
    """Within the block an image that an encoder has met, by its very pixels, is not encoded again.

    An image's features do not depend on the images beside it, so what is kept is what would be computed.
    """
    plain = ImageEncoder.encode
    kept: dict[tuple[int, bytes], list[np.ndarray]] = {}
    seen: list[ImageEncoder] = []  # alive, so that no other encoder gets its id

    def encode(self: ImageEncoder, pixels: Any) -> list[np.ndarray]:
        if not any(self is encoder for encoder in seen):
            seen.append(self)
        keys = [(id(self), hashlib.blake2b(image.tobytes(), digest_size=16).digest()) for image in pixels]
        missing = [at for at, key in enumerate(keys) if key not in kept]
        if missing:
            for at, *outputs in zip(missing, *plain(self, pixels[missing]), strict=True):
                kept[keys[at]] = [np.array(output) for output in outputs]
        return [np.stack(outputs) for outputs in zip(*(kept[key] for key in keys), strict=True)]

    ImageEncoder.encode = encode  # type: ignore[method-assign]
    try:
        yield
    finally:
        ImageEncoder.encode = plain  # type: ignore[method-assign]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Records of a file of JSON lines; a line cut off by a kill is passed over."""
    found = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
    return found


def add_line(path: Path, record: dict[str, Any]) -> None:
    """Append a record, flushed to disk; what a kill cut off before it is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cut = path.is_file() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if cut else "") + json.dumps(record, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
