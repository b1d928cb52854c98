"""Measures of one run: of scores, of verdicts, and of maps against masks at one common size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal import metrics
from offnominal.bench.layouts import LabelledImages

SIDE = 256
"""Maps and masks are compared at this many pixels a side, whatever the images' own sizes."""


def item_measures(labels: npt.ArrayLike, scores: npt.ArrayLike) -> dict[str, float]:
    """Image AUROC, average precision, F1-max and false-positive rate at 95 % recall."""
    return {
        "auroc": metrics.auroc(labels, scores),
        "ap": metrics.average_precision(labels, scores),
        "f1_max": metrics.f1_max(labels, scores),
        "fpr95": metrics.fpr95(labels, scores),
    }


def verdict_measures(
    labels: npt.NDArray[np.int64], verdicts: npt.NDArray[np.int8] | None
) -> dict[str, float]:
    """Realised false-alarm rate and recall of verdicts (−1: none); NaN without a decision."""
    if verdicts is None:
        return {"false_alarm_rate": float("nan"), "recall": float("nan")}
    found = verdicts[(labels == 1) & (verdicts >= 0)]
    return {
        "false_alarm_rate": metrics.realised_false_alarm_rate(labels, verdicts),
        "recall": float(found.mean()) if len(found) else float("nan"),
    }


def shrunk_mask(mask: npt.NDArray[np.bool_], side: int = SIDE) -> npt.NDArray[np.bool_]:
    """Mask at ``side`` × ``side`` pixels, each taking the value of the nearest pixel."""
    rows = ((np.arange(side) + 0.5) * mask.shape[0] / side).astype(int)
    columns = ((np.arange(side) + 0.5) * mask.shape[1] / side).astype(int)
    return np.asarray(mask[np.ix_(rows, columns)])


def masked_positions(source: LabelledImages) -> list[int]:
    """Positions whose pixels are known: images with a mask, and normal ones of a set with masks."""
    return [at for at, entry in enumerate(source.entries) if entry.mask is not None]


def masks_of(source: LabelledImages, positions: Iterable[int]) -> Iterator[npt.NDArray[np.bool_] | None]:
    """Masks at the common size, one at a time; None for a normal image."""
    for position in positions:
        if source.entries[position].label == 0:
            yield None
            continue
        mask = source.mask(position)
        yield None if mask is None else shrunk_mask(mask)


def pixel_level(
    source: LabelledImages, positions: list[int], maps: Iterable[npt.NDArray[Any]]
) -> dict[str, float]:
    """Pixel AUROC, pixel AP, area under PRO to 30 % false positives and pixel F1-max.

    Parameters
    ----------
    source : LabelledImages
    positions : list of int
        Those the maps are of, in order.
    maps : iterable of ndarray (`SIDE`, `SIDE`)
        Read once.
    """
    found = metrics.pixel_measures(masks_of(source, positions), maps)
    return {
        "pixel_auroc": found["auroc"],
        "pixel_ap": found["average_precision"],
        "aupro": found["aupro"],
        "pixel_f1_max": found["f1_max"],
    }
