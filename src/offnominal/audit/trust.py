"""Whether a detector's correct verdicts rest on the right pixels (S043)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.audit.attribution import Attribution, Image, Segments, kernel_shap, lime, superpixels
from offnominal.core.errors import BadItem, BadSource, NoDecisionError
from offnominal.core.progress import track
from offnominal.core.seeds import generator
from offnominal.core.source import Source
from offnominal.data import open_source, resize, resize_map
from offnominal.detector import Detector

Mask = npt.NDArray[np.bool_]

_ORDERS = 500  # random orders of the superpixels that chance is told from
_CHANCE = 0.95
_BACKGROUND = 16  # normal images that show where parts are hidden


@dataclass(frozen=True)
class Explained:
    """What one anomalous image's score rests on.

    Attributes
    ----------
    item : str
    score : float
    anomalous : bool
        The detector's verdict; the truth is yes.
    jaccard : dict of str to float
        By explanation ("lime", "shap", and "map" where the detector localises): the best Jaccard index, over
        all thresholds, of what stands out with the mask.
    chance : float
        What the best Jaccard index stays below in 95 of 100 random orders of the same superpixels.
    """

    item: str
    score: float
    anomalous: bool
    jaccard: dict[str, float]
    chance: float

    def wrong_reason(self, explanation: str) -> bool:
        """Whether a correct verdict rests on other pixels, as far as this explanation tells."""
        return self.anomalous and self.jaccard[explanation] <= self.chance


@dataclass(frozen=True)
class Picture:
    """What a page shows of one image: its pixels, its mask, and its explanations as maps."""

    image: Image
    mask: Mask
    maps: dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Trust:
    """The audit of a detector.

    Attributes
    ----------
    detector : str
    source : str
    items : list of Explained
        In the source's order.
    skipped : list of str
        Anomalous items without a mask, or that could not be read, with the reason.
    pictures : dict of str to Picture
        By item, of the first ones.
    """

    detector: str
    source: str
    items: list[Explained]
    skipped: list[str]
    pictures: dict[str, Picture]

    @property
    def explanations(self) -> list[str]:
        """Names of the explanations."""
        return list(self.items[0].jaccard) if self.items else []

    def summary(self) -> list[dict[str, Any]]:
        """A row an explanation: images, correct verdicts, and how many rest on the wrong pixels."""
        correct = [item for item in self.items if item.anomalous]
        rows = []
        for name in self.explanations:
            wrong = sum(item.wrong_reason(name) for item in correct)
            rows.append(
                {
                    "explanation": name,
                    "images": len(self.items),
                    "correct": len(correct),
                    "wrong_reason": wrong,
                    "wrong_share": wrong / len(correct) if correct else None,
                    "jaccard": float(np.mean([item.jaccard[name] for item in self.items])),
                    "chance": float(np.mean([item.chance for item in self.items])),
                }
            )
        return rows

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures."""
        items = [
            {**asdict(item), "wrong_reason": {name: item.wrong_reason(name) for name in item.jaccard}}
            for item in self.items
        ]
        return {
            "detector": self.detector,
            "source": self.source,
            "summary": self.summary(),
            "items": items,
            "skipped": self.skipped,
        }


def trust(
    detector: Detector,
    items: Any,
    *,
    samples: int = 500,
    parts: int = 60,
    most: int | None = None,
    shown: int = 24,
    seed: int = 0,
) -> Trust:
    """Compare what a detector's scores rest on with where the anomalies are.

    Parameters
    ----------
    detector : Detector
        Fitted image detector with a decision.
    items : source
        Images; those labelled anomalous that have a mask are explained. Where a part of one is hidden, an
        image labelled normal shows instead, so some of those are needed, of the same kind.
    samples : int, default 500
        Scores asked for an image and explanation.
    parts : int, default 60
        Superpixels an image.
    most : int, optional
        Explain at most so many, drawn by the seed.
    shown : int, default 24
        Images whose pictures are kept.
    seed : int, default 0

    Raises
    ------
    BadSource
        No anomalous image with a mask, or no normal one.
    NoDecisionError
        The detector gives no verdicts.
    ValueError
        The detector is not one of images.

    Notes
    -----
    A verdict is right for the wrong reason where the explanation, cut at its best threshold, overlaps the
    mask no better than the same superpixels in random order do in 95 of 100 cases: the best threshold alone
    lifts the index of any explanation, more so for large anomalies. The detector's own map is averaged over
    the same superpixels, so that all are compared on one footing.

    Source: Can I trust my anomaly detection system? (S043): attributions of the score by LIME and SHAP,
    thresholded at the level of the best Jaccard index. What counts as low, chance, is ours.
    """
    if detector.card.modality != "image":
        raise ValueError(
            f"trust explains detectors of images; {detector.card.name} is of {detector.card.modality}"
        )
    if detector.decision_ is None:
        raise NoDecisionError(f"{detector.card.name} has no decision; call calibrate with normal items")
    source = open_source(items, "image")
    skipped: list[str] = []
    asked = [at for at, reference in enumerate(source.references) if reference.label == 1]
    if most is not None and len(asked) > most:
        asked = sorted(generator(seed, "trust").permutation(asked)[:most].tolist())
    normals = _normals(source, seed)
    found: list[Explained] = []
    pictures: dict[str, Picture] = {}
    for at in track(asked, total=len(asked), label="Explaining"):
        name = source.references[at].item
        try:
            image = source.read(at).value
            mask = source.mask(at)
        except BadItem as bad:
            skipped.append(f"{name}: {bad.reason}")
            continue
        if mask is None or not mask.any():
            skipped.append(f"{name}: has no mask")
            continue
        (record,) = detector.detect([image], maps=False)
        if record.error is not None or record.score is None:
            skipped.append(f"{name}: {record.error}")
            continue
        if record.anomalous is None:
            raise NoDecisionError(f"{detector.card.name} gives no verdict; calibrate it with more items")
        segments = superpixels(image, parts)
        explanations = _explanations(
            detector, image, segments, [alike(n, image) for n in normals], samples, seed
        )
        jaccard = {e.method: best_jaccard(mask, segments, e.weights) for e in explanations}
        found.append(
            Explained(name, record.score, record.anomalous, jaccard, _by_chance(mask, segments, seed))
        )
        if len(pictures) < shown:
            pictures[name] = Picture(image, mask, {e.method: e.map for e in explanations})
    if not found:
        raise BadSource(
            f"{source.name}: no anomalous image with a mask; give a manifest with labels and masks"
        )
    return Trust(detector.card.name, source.name, found, skipped, pictures)


def _explanations(
    detector: Detector,
    image: Image,
    segments: Segments,
    normals: list[Image],
    samples: int,
    seed: int,
) -> list[Attribution]:
    found = [
        lime(detector.anomaly_score, image, segments, normals, samples=samples, seed=seed),
        kernel_shap(detector.anomaly_score, image, segments, normals, samples=samples, seed=seed),
    ]
    if detector.card.localises:
        place = detector.anomaly_map([image])[0]
        if place.shape != segments.shape:
            place = resize_map(place, segments.shape)
        sums = np.bincount(segments.ravel(), weights=place.ravel().astype(np.float64))
        found.append(Attribution("map", segments, sums / np.bincount(segments.ravel())))
    return found


def _normals(source: Source, seed: int) -> list[Image]:
    """Some of the source's normal images."""
    asked = [at for at, reference in enumerate(source.references) if reference.label == 0]
    found: list[Image] = []
    for at in generator(seed, "background").permutation(asked).tolist():
        try:
            found.append(source.read(at).value)
        except BadItem:
            continue
        if len(found) == _BACKGROUND:
            break
    if not found:
        raise BadSource(
            f"{source.name}: no normal image to show where parts are hidden; add some, labelled 0"
        )
    return found


def alike(normal: Image, image: Image) -> Image:
    """A normal image in the size, channels and type of another."""
    if normal.shape[2] != image.shape[2]:
        grey = normal.mean(axis=2, keepdims=True)
        normal = np.repeat(grey, image.shape[2], axis=2)
    resized: Image = resize(normal, image.shape[:2])
    return (np.rint(resized) if np.issubdtype(image.dtype, np.integer) else resized).astype(image.dtype)


def best_jaccard(mask: Mask, segments: Segments, weights: npt.NDArray[np.float64]) -> float:
    """Best Jaccard index, over all thresholds, of the superpixels whose weight is above it with a mask.

    Parameters
    ----------
    mask : ndarray (H, W) of bool
    segments : ndarray (H, W) of intp
    weights : ndarray (k,)

    Returns
    -------
    float
        In [0, 1]; superpixels of equal weight are taken together.
    """
    order = np.argsort(-weights, kind="stable")
    areas, inside = _overlaps(mask, segments)
    last = np.flatnonzero(np.append(np.diff(weights[order]) != 0, True))
    return float(_indices(areas[order], inside[order], mask.sum())[last].max())


def _by_chance(mask: Mask, segments: Segments, seed: int) -> float:
    areas, inside = _overlaps(mask, segments)
    orders = generator(seed, "chance").random((_ORDERS, len(areas))).argsort(axis=1)
    best = _indices(areas[orders], inside[orders], mask.sum()).max(axis=1)
    return float(np.quantile(best, _CHANCE))


def _overlaps(mask: Mask, segments: Segments) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Pixels of each superpixel, and those of them inside the mask."""
    areas = np.bincount(segments.ravel()).astype(np.float64)
    inside = np.bincount(segments.ravel(), weights=mask.ravel(), minlength=len(areas))
    return areas, inside.astype(np.float64)


def _indices(
    areas: npt.NDArray[np.float64], inside: npt.NDArray[np.float64], total: float
) -> npt.NDArray[np.float64]:
    """Jaccard index after each superpixel of an order (…, k)."""
    hit = inside.cumsum(axis=-1)
    found: npt.NDArray[np.float64] = hit / (areas.cumsum(axis=-1) + total - hit)
    return found
