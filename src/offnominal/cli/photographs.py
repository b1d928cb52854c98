"""The demo's material: photographs that ship inside scikit-image, cut by place, with planted defects.

Training crops come from the left of each photograph and test crops from its right, with a gap between; crops
of one band lie far from those of the next, and neighbours that overlap share a group, so that no split puts
them on both sides. Nothing is downloaded.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.cli.failures import Failure
from offnominal.core.seeds import generator
from offnominal.core.store import atomic_path
from offnominal.synth import KINDS, plant

MATERIALS = ("brick", "grass", "gravel")
CREDIT = (
    "Photographs: CC0Textures (brick, grass, gravel), Creative Commons CC0, from the scikit-image package."
)
PLANTED_NOTE = (
    "The defects of this demo are planted: drawn into photographs by offnominal, with known place and kind. "
    "They show how the tool works and are no measure of how well it finds real defects."
)

CROP = 96
BANDS = (0, 104, 208, 312, 416)
TRAIN = range(0, 193, 24)
TEST = (320, 416)
TRUNCATED = "new/gravel-truncated.png"


@dataclass(frozen=True, slots=True)
class Material:
    """Where the demo's files are.

    Attributes
    ----------
    good, new : Path
        Manifests of the normal crops and of those to look at.
    planted : dict of str to str
        What was planted, by item name; items without a defect are left out.
    masks : dict of str to ndarray (H, W) bool
        Where, by item name.
    """

    good: Path
    new: Path
    planted: dict[str, str]
    masks: dict[str, npt.NDArray[np.bool_]]


def photograph(name: str) -> npt.NDArray[np.uint8]:
    """Read a photograph (512, 512) out of the installed package.

    Raises
    ------
    Failure
        It is not there: scikit-image was repackaged without its data.
    """
    from PIL import Image

    try:
        with files("skimage.data").joinpath(f"{name}.png").open("rb") as file, Image.open(file) as image:
            return np.asarray(image.convert("L"))
    except (OSError, ModuleNotFoundError) as error:
        raise Failure(
            f"the photograph {name}.png is not in the installed scikit-image ({error}); "
            "pip install --force-reinstall scikit-image"
        ) from error


def lay_out(folder: Path, seed: int = 0) -> Material:
    """Write crops, masks and manifests.

    Parameters
    ----------
    folder : Path
    seed : int
        Seed of which crops get a defect, and of the defects.
    """
    good, new = folder / "good.csv", folder / "new.csv"
    photographs = {name: photograph(name) for name in MATERIALS}
    rows = []
    for name, y, x, crop in _crops(photographs, TRAIN):
        path = f"good/{name}-{y:03}-{x:03}.png"
        _write(folder / path, crop)
        rows.append({"path": path, "product": name, "group": f"{name}-{y:03}"})
    _manifest(good, rows)
    test = list(_crops(photographs, TEST))
    chosen = _chosen(test, seed)
    rows, planted, masks = [], {}, {}
    for number, (name, y, x, crop) in enumerate(test):
        path = f"new/{name}-{y:03}-{x:03}.png"
        row: dict[str, Any] = {"path": path, "product": name, "label": 0}
        if number in chosen:
            draw = generator(seed, "demo", path)
            item, mask = plant(crop, chosen[number], float(draw.uniform(0.5, 1)), draw)
            crop = item[..., 0]
            planted[path], masks[path] = chosen[number], mask
            row |= {"label": 1, "kind": chosen[number], "mask": f"masks/{name}-{y:03}-{x:03}.png"}
            _write(folder / row["mask"], np.where(mask, 255, 0).astype(np.uint8))
        _write(folder / path, crop)
        rows.append(row)
    _write(folder / TRUNCATED, test[-1][3])
    whole = (folder / TRUNCATED).read_bytes()
    (folder / TRUNCATED).write_bytes(whole[: len(whole) // 3])
    rows.append({"path": TRUNCATED, "product": "gravel"})
    _manifest(new, rows)
    return Material(good, new, planted, masks)


def _crops(
    photographs: Mapping[str, npt.NDArray[np.uint8]], columns: Iterable[int]
) -> Iterator[tuple[str, int, int, npt.NDArray[np.uint8]]]:
    for name, pixels in photographs.items():
        for y in BANDS:
            for x in columns:
                yield name, y, x, pixels[y : y + CROP, x : x + CROP]


def _chosen(test: list[tuple[str, int, int, npt.NDArray[np.uint8]]], seed: int) -> dict[int, str]:
    """Which test crops get a defect, by position: each kind once on each material."""
    draw = generator(seed, "demo", "places")
    chosen = {}
    for name in MATERIALS:
        places = [number for number, crop in enumerate(test) if crop[0] == name]
        for number, kind in zip(draw.permutation(places)[: len(KINDS)], KINDS, strict=True):
            chosen[int(number)] = kind
    return chosen


def _write(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")


def _manifest(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
