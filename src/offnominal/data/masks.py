"""Anomaly masks: which file belongs to which image, and what it says."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadItem, BadSource
from offnominal.data.decode import decode
from offnominal.data.limits import Limits
from offnominal.data.listing import walk

_ENDING = re.compile(r"[-_ .]?(mask|gt|ground_?truth|label|seg)$", re.IGNORECASE)
_LOSSY = (".jpg", ".jpeg", ".jpe", ".webp")

Colours = tuple[tuple[int, int, int], ...]


def pair(images: Sequence[Sequence[str]], folder: str) -> list[str | None]:
    """Find each image's mask in a folder by its stem, with or without ``_mask``, ``_gt`` and the like.

    Parameters
    ----------
    images : sequence of path components relative to the source
    folder : str
        Masks, flat or in subfolders. A mask in a subfolder fits only an image in a folder of that name, so
        that ``good/000.png`` does not take ``broken/000_mask.png``.

    Returns
    -------
    list of str or None
        Path of each image's mask, None where there is none.

    Raises
    ------
    BadSource
        The folder cannot be read, holds no image, or one mask fits several images.
    """
    try:
        listed = [entry for entry in walk(folder) if entry.problem is None]
    except OSError as error:
        raise BadSource(f"{folder}: masks cannot be read ({error.strerror or error})") from error
    if not listed:
        raise BadSource(f"{folder}: holds no masks")
    known: dict[str, list[tuple[tuple[str, ...], str]]] = defaultdict(list)
    for entry in listed:
        stem = os.path.splitext(entry.parts[-1])[0]
        for name in {stem, _ENDING.sub("", stem)}:
            known[name].append((entry.parts[:-1], entry.path))
    pairs: list[str | None] = []
    taken: dict[str, Sequence[str]] = {}
    for parts in images:
        stem = os.path.splitext(parts[-1])[0]
        above = tuple(parts[:-1])
        fitting = [
            (len(below), path)
            for below, path in known.get(stem, ())
            if not below or above[-len(below) :] == below
        ]
        path = max(fitting)[1] if fitting else None
        if path is not None and path in taken:
            raise BadSource(
                f"{path}: this mask fits both {'/'.join(taken[path])} and {'/'.join(parts)}; "
                "give the masks the images' folders, or a manifest with a mask column"
            )
        if path is not None:
            taken[path] = parts
        pairs.append(path)
    return pairs


def read_mask(path: str, item: str, colours: Colours | None, limits: Limits) -> npt.NDArray[np.bool_]:
    """Read a mask (H, W): what is not black, or is one of ``colours``; in lossy files what is over 127.

    Raises
    ------
    BadItem
        The file cannot be read.
    """
    try:
        image = decode(path, item=item, limits=limits)
    except BadItem as bad:
        raise BadItem(item, f"its mask {os.path.basename(path)} {bad.reason}", bad.remedy) from bad
    if colours:
        wanted: npt.NDArray[np.bool_] = np.zeros(image.shape[:2], dtype=bool)
        shown = (
            np.broadcast_to(image[..., :1], (*image.shape[:2], 3)) if image.shape[2] < 3 else image[..., :3]
        )
        for colour in colours:
            wanted[(shown == np.array(colour)).all(axis=2)] = True
        return wanted
    floor = 127 if path.lower().endswith(_LOSSY) else 0
    return np.asarray((image > floor).any(axis=2))
