"""Magnetic tiles (MTD): six photographs of each tile under six exposures.

File names read ``exp<exposure>_num_<frame>``. Frame numbers run through the whole recording: a tile's six
exposures follow one another some 10 to 40 frames apart, the next tile comes later. Of the 1 344 images 1 110
fall into groups of exactly one photograph an exposure; where two tiles were taken in turn, their images are
kept in one group, which errs on the safe side. A split by image, as published results use, has other
exposures of most test tiles in training.

The masks of four Uneven tiles are empty: they are anomalous images without a mask here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .masks import NoAnomaly, Picture
from .split import DatasetSplit, Entry, assemble, images_in, take_groups

FOLDERS = ("magnetic_tile",)
FRAME = re.compile(r"^exp(?P<exposure>\d+)_num_(?P<frame>\d+)$")
# Longest pause between exposures of one tile; measured on the gaps, which have a clear valley there.
PAUSE = 80
NORMAL = "MT_Free"


def tiles(stems: Sequence[str]) -> list[str]:
    """Group of each image, by the tile it shows.

    A group ends at a pause in the frame numbers, unless the exposure keeps rising over it.
    """
    frames = []
    for at, stem in enumerate(stems):
        found = FRAME.match(stem)
        if found is None:
            raise ValueError(f"{stem!r} is not a name of a magnetic tile image")
        frames.append((int(found["frame"]), int(found["exposure"]), at))
    groups = [""] * len(stems)
    group, before = "", (-PAUSE - 1, 99)
    for frame, exposure, at in sorted(frames):
        if frame - before[0] > PAUSE and exposure <= before[1]:
            group = f"tile-{frame}"
        groups[at] = group
        before = (frame, exposure)
    return groups


def entries(folder: Path) -> list[Entry]:
    """All images with kind, tile and mask."""
    found: list[Entry] = []
    for kind in sorted(path for path in folder.glob("MT_*") if path.is_dir()):
        for image in images_in(kind / "Imgs", lambda path: path.suffix.lower() in (".jpg", ".jpeg")):
            if kind.name == NORMAL:
                found.append(Entry(image, mask=NoAnomaly()))
                continue
            mask = Picture(image.with_suffix(".png"))
            usable = mask.path.is_file() and mask.read(image).any()
            found.append(
                Entry(image, 1, kind=kind.name.removeprefix("MT_").lower(), mask=mask if usable else None)
            )
    groups = tiles([entry.path.stem for entry in found])
    return [replace(entry, group=group) for entry, group in zip(found, groups, strict=True)]


def names(folder: Path) -> list[str]:
    """The set split by tile, and the same split by image."""
    return ["", "by_image"] if (folder / NORMAL).is_dir() else []


def load(name: str, folder: Path, category: str, seed: int) -> DatasetSplit:
    """Magnetic tiles, 80 % of the free ones for training, all defects and the rest in test.

    The default keeps a tile on one side, and tiles with a defect out of training. ``by_image`` draws single
    images, as published results do: for comparison with those only.
    """
    found = entries(folder)
    good = [entry for entry in found if entry.label == 0]
    bad = [entry for entry in found if entry.label == 1]
    if category == "by_image":
        _, taken = take_groups([replace(entry, group=None) for entry in good], 0.2, seed)
        held = {entry.path for entry in taken}
        protocol = "seeded 80/20 of the free images, single images: exposures of one tile on both sides"
    else:
        broken = {entry.group for entry in bad}
        beside = [entry for entry in good if entry.group in broken]
        apart = [entry for entry in good if entry.group not in broken]
        share = max(0.2 * len(good) - len(beside), 0) / max(len(apart), 1)
        _, taken = take_groups(apart, share, seed)
        held = {entry.path for entry in (*beside, *taken)}
        protocol = "seeded 80/20 of the free images, whole tiles (six exposures each), empty masks left out"
    train = [entry for entry in good if entry.path not in held]
    return assemble(
        name,
        folder,
        train,
        [*(entry for entry in good if entry.path in held), *bad],
        seed=seed,
        origin="Magnetic tile defects, Huang et al. 2018",
        licence="none stated",
        protocol=protocol,
    )
