"""Which image detector: a look at the normal images, a few rules, and why.

The rules come from ``offnominal bench image``; ``benchmarks/planner.py`` makes each anew without the set it
is judged on.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadItem, BadSource
from offnominal.core.plan import Plan
from offnominal.core.seeds import generator
from offnominal.core.source import Source
from offnominal.data import resize, to_rgb

LOOKED_AT = 48
"""Images that are read for the fingerprint."""

SIDE = 64
CELLS = 4

THUMBNAIL = 64
"""Longer side, in pixels, up to which an image shows a thing as a whole rather than its surface."""

ALIGNED = 0.8
"""Correlation with the mean image from which the images count as aligned."""

TEXTURE = 0.25
"""Share of the grey variance that lies between places, below which an image counts as a texture."""


@dataclass(frozen=True)
class Fingerprint:
    """What was seen of normal images.

    Attributes
    ----------
    items : int
        Images there are.
    looked_at : int
        Images that were read.
    height, width, channels : int
        Medians.
    sizes : int
        Different sizes among them.
    alignment : float
        Mean correlation of an image with the mean of all, in grey and small; 1 for identical ones.
    places : float
        Share of an image's grey variance that lies between the cells of a 4 × 4 grid, median over images:
        low for textures, high for an object before a background.
    torch : bool
        Whether detectors that train can be used.
    """

    items: int
    looked_at: int
    height: int
    width: int
    channels: int
    sizes: int
    alignment: float
    places: float
    torch: bool

    @property
    def aligned(self) -> bool:
        """Whether the same place shows the same thing in every image."""
        return self.alignment >= ALIGNED

    @property
    def texture(self) -> bool:
        """Whether the images look alike everywhere."""
        return self.places < TEXTURE


def fingerprint(source: Source, seed: int = 0) -> Fingerprint:
    """Look at some of the normal images of a source.

    Parameters
    ----------
    source : Source
        Images; those labelled anomalous are passed over, as are those that cannot be read.
    seed : int
        Chooses which are read.

    Raises
    ------
    BadSource
        None can be read.
    """
    normal = [at for at, reference in enumerate(source.references) if reference.label != 1]
    order = generator(seed, "planner").permutation(len(normal))
    seen = list(_read(source, (normal[at] for at in order)))
    if not seen:
        raise BadSource(f"{source.name}: no usable image to plan by")
    shapes = np.array([shape for shape, _ in seen])
    small = np.stack([grey for _, grey in seen])
    return Fingerprint(
        items=len(source),
        looked_at=len(seen),
        height=int(np.median(shapes[:, 0])),
        width=int(np.median(shapes[:, 1])),
        channels=int(np.median(shapes[:, 2])),
        sizes=len(np.unique(shapes[:, :2], axis=0)),
        alignment=round(_alignment(small), 3),
        places=round(float(np.median([_between_places(grey) for grey in small])), 3),
        torch=importlib.util.find_spec("torch") is not None,
    )


def plan(found: Fingerprint) -> Plan:
    """Choose by the rules.

    Parameters
    ----------
    found : Fingerprint
        As `fingerprint` gives it.
    """
    because = [_in_words(found)]
    detector = "patchcore"
    if max(found.height, found.width) <= THUMBNAIL:
        detector = "gaussian"
        because.append(
            "Images this small show a thing as a whole: what is off is its kind, not a place on it, and a "
            "Gaussian on whole-image features ranked kinds best."
        )
    else:
        because.append(
            "A memory bank of local features was the best choice on the sets measured, aligned or not, "
            "texture or object, with few images or many."
        )
    if found.torch:
        because.append(
            "torch is here, so that detectors that train could be used; how they compare is not measured on "
            "enough sets yet to choose one unasked."
        )
    return Plan("image", detector, {}, tuple(because), asdict(found))


def _read(
    source: Source, positions: Iterable[int]
) -> Iterable[tuple[tuple[int, ...], npt.NDArray[np.float64]]]:
    """Shape, and small grey picture, of the first images that can be read."""
    count = 0
    for position in positions:
        if count == LOOKED_AT:
            return
        try:
            image = source.read(position).value
            grey = np.asarray(resize(to_rgb(image), (SIDE, SIDE)), np.float64).mean(axis=-1)
        except BadItem:
            continue
        if np.isfinite(grey).all():
            count += 1
            yield image.shape, grey


def _alignment(small: npt.NDArray[np.float64]) -> float:
    flat = small.reshape(len(small), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    mean = flat.mean(axis=0)
    lengths = np.linalg.norm(flat, axis=1) * np.linalg.norm(mean)
    return float(np.divide(flat @ mean, lengths, out=np.ones(len(flat)), where=lengths > 0).mean())


def _between_places(grey: npt.NDArray[np.float64]) -> float:
    side = SIDE // CELLS
    cells = grey.reshape(CELLS, side, CELLS, side).mean(axis=(1, 3))
    return float(cells.var() / grey.var()) if grey.var() > 0 else 0.0


def _in_words(found: Fingerprint) -> str:
    what = "a texture" if found.texture else "an object or a scene"
    where = "aligned" if found.aligned else "not aligned"
    plural = "s" if found.items != 1 else ""
    return (
        f"{found.items} image{plural} of about {found.width} x {found.height} pixels, "
        f"{found.channels} channel{'s' if found.channels != 1 else ''}: {what}, {where}."
    )
