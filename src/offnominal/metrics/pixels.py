"""Counting of pixels over a stream of masks and maps, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offnominal.metrics.bins import FloatBins
from offnominal.metrics.counts import Floats, ThresholdCounts, count_pixels
from offnominal.metrics.regions import Positions, Runs, find_runs, join_runs, spread

# A stream of no more pixels than this (33 MB of scores) is counted exactly: sorting it is the faster way.
KEPT = 1 << 23
# Pixels counted in one go after that.
BLOCK = 1 << 20
# A bin may hold this share of all pixels (or of the anomalous ones) before its cell is cut finer. An area
# changes by at most half the share of normals in a bin, and in practice by the square of it.
HEAVY = 2.0**-12
AIM = 2.0**-13
ROUNDS = 8
# One pixel in so many is looked at to choose the bins; odd, so that all columns of a map are met.
SAMPLED = 13


class PixelCounter:
    """Counts pixels by score, map after map.

    Parameters
    ----------
    exact : bool, default False
        Keep every pixel and sort, rather than a histogram. Memory grows with the number of pixels.
    regions : bool, default False
        Also follow each 8-connected region of the masks, for `pro_curve`. Maps must then be (H, W).
    """

    def __init__(self, *, exact: bool = False, regions: bool = False) -> None:
        self._exact = exact
        self._regions = regions
        self._seen = 0
        self._values: NDArray[np.floating] = np.empty(0, dtype=np.float32)
        self._clear()
        self._bins: FloatBins | None = None
        # Rows: all pixels, anomalous pixels, overlap with regions.
        self._histogram = np.zeros((3, 0))
        self._region_count = 0

    def add(self, mask: ArrayLike | None, scores: ArrayLike) -> None:
        """Count one map.

        Parameters
        ----------
        mask : array_like or None, shape as ``scores``
            Non-zero = anomalous; None = all normal.
        scores : array_like
            Finite, any scale, higher = more anomalous. Counted as float32 unless ``exact``.

        Raises
        ------
        ValueError
            Shapes differ, a score is not finite, or regions are followed and the map is not (H, W).
        """
        values = self._admit(scores)
        if mask is not None:
            marked = np.asarray(mask)
            if marked.shape != np.shape(scores):
                raise ValueError(
                    f"map {self._seen}: mask of shape {marked.shape}, map of shape {np.shape(scores)}"
                )
            if marked.dtype != np.bool_:
                marked = marked != 0
            if marked.any():
                if self._regions:
                    if marked.ndim != 2:
                        raise ValueError(f"map {self._seen}: regions need shape (H, W), got {marked.shape}")
                    runs = find_runs(marked)
                    self._runs.append((self._pending, runs))
                else:
                    self._anomalous.append(np.flatnonzero(marked) + self._pending)
        self._take(values)

    def add_annotations(
        self, annotations: Sequence[ArrayLike], saturations: Sequence[float], scores: ArrayLike
    ) -> None:
        """Count one map whose anomalies are annotations, which may overlap and saturate (see `spro`)."""
        values = self._admit(scores)
        if len(annotations) != len(saturations):
            raise ValueError(
                f"map {self._seen}: {len(annotations)} annotation(s), {len(saturations)} saturation area(s)"
            )
        union = np.zeros(len(values), dtype=np.bool_)
        for annotation, saturation in zip(annotations, saturations, strict=True):
            marked = np.asarray(annotation) != 0
            if marked.shape != np.shape(scores):
                raise ValueError(
                    f"map {self._seen}: annotation of shape {marked.shape}, map of shape {np.shape(scores)}"
                )
            if not (np.isfinite(saturation) and saturation > 0):
                raise ValueError(
                    f"map {self._seen}: a saturation area must be above 0 pixels, got {saturation}"
                )
            at = np.flatnonzero(marked)
            if len(at) == 0:
                raise ValueError(f"map {self._seen}: an annotation marks no pixel; leave it out")
            union[at] = True
            # Only the highest-scoring pixels up to the saturation area add overlap; the rest add none.
            at = at[np.argsort(values[at])[::-1]]
            reached = np.minimum(np.arange(len(at) + 1) / saturation, 1.0)
            self._weighted.append(at + self._pending)
            self._weights.append(np.diff(reached))
            self._region_count += 1
        self._anomalous.append(np.flatnonzero(union) + self._pending)
        self._take(values)

    def counts(self) -> ThresholdCounts:
        """Counts of everything that was added; nothing can be added afterwards."""
        if self._bins is None:
            anomalous, weighted, weights, regions = self._marks()
            return count_pixels(
                self._values[: self._pending], anomalous, weighted, weights, self._region_count + regions
            )
        self._flush()
        order, least = self._bins.rising()
        everything, anomalous_in, overlap = self._histogram
        order, least = order[::-1], least[::-1]
        kept = everything[order] > 0
        order = order[kept]
        return ThresholdCounts(
            least[kept],
            np.maximum(everything[order] - anomalous_in[order], 0.0),
            anomalous_in[order],
            overlap[order],
            self._region_count,
        )

    def _admit(self, scores: ArrayLike) -> NDArray[np.floating]:
        """Copy a map's scores behind the pending ones; they are pending once `_take` is called."""
        given = np.asarray(scores).ravel()
        values = self._room(
            len(given), np.dtype(np.float64) if self._exact and given.dtype != np.float32 else None
        )
        with np.errstate(over="ignore"):
            values[:] = given
        # Extremes carry NaN and infinities along, at a fraction of the cost of looking at each pixel.
        if len(values) and not (np.isfinite(values.min()) and np.isfinite(values.max())):
            raise ValueError(f"map {self._seen}: scores must be finite numbers within float32")
        return values

    def _room(self, more: int, wider: np.dtype[np.float64] | None) -> NDArray[np.floating]:
        """Space for so many scores behind the pending ones; a page that is not written to costs nothing."""
        dtype = wider or self._values.dtype
        end = self._pending + more
        if end > len(self._values) or dtype != self._values.dtype:
            grown = np.empty(max(end, 2 * len(self._values) if self._exact else KEPT), dtype=dtype)
            grown[: self._pending] = self._values[: self._pending]
            self._values = grown
        return self._values[self._pending : end]

    def _take(self, values: NDArray[np.floating]) -> None:
        self._pending += len(values)
        self._seen += 1
        if not self._exact and self._pending > (KEPT if self._bins is None else BLOCK):
            self._flush()

    def _clear(self) -> None:
        self._pending = 0
        self._runs: list[tuple[int, Runs]] = []
        self._anomalous: list[Positions] = []
        self._weighted: list[Positions] = []
        self._weights: list[Floats] = []

    def _marks(self) -> tuple[Positions, Positions, Floats, int]:
        """Pending: anomalous positions, positions and weights of the regions' pixels, number of regions."""
        if self._runs:
            all_runs = [runs for _, runs in self._runs]
            region, count = join_runs(all_runs)
            length = np.concatenate([runs.stop - runs.start for runs in all_runs])
            first = np.concatenate([at + runs.row * runs.shape[1] + runs.start for at, runs in self._runs])
            area = np.bincount(region, weights=length, minlength=count)
            inside = spread(first, length)
            return inside, inside, np.repeat(1.0 / area[region], length), count
        return _joined(self._anomalous), _joined(self._weighted), _joined_floats(self._weights), 0

    def _flush(self) -> None:
        """Move what is pending into the histogram."""
        anomalous, weighted, weights, regions = self._marks()
        values = self._values[: self._pending]
        if self._bins is None:
            self._bins = FloatBins()
            self._histogram = np.zeros((3, len(self._bins)))
        self._prepare(values[::SAMPLED], values[anomalous])
        total = len(self._bins)
        located = self._bins.locate(values)
        self._histogram[0] += np.bincount(located, minlength=total)
        self._histogram[1] += np.bincount(located[anomalous], minlength=total)
        if len(weighted):
            self._histogram[2] += np.bincount(located[weighted], weights=weights, minlength=total)
        self._region_count += regions
        self._clear()

    def _prepare(self, sample: NDArray[np.float32], anomalous: NDArray[np.float32]) -> None:
        """Cut the bins as fine as the pixels to come need, judged by a sample and by all anomalous ones."""
        assert self._bins is not None
        for _ in range(ROUNDS):
            total = len(self._bins)
            everything = self._histogram[0] + SAMPLED * np.bincount(
                self._bins.locate(sample), minlength=total
            )
            found = self._histogram[1] + np.bincount(self._bins.locate(anomalous), minlength=total)
            parts = self._sharpen(everything, found)
            if parts is None:
                return
            # What was counted before is spread evenly: it was too little to matter where it lies.
            self._histogram = np.repeat(self._histogram / parts, parts, axis=1)

    def _sharpen(self, everything: Floats, found: Floats) -> Positions | None:
        """Cut bins finer that hold too much; into how many each, or None if none is."""
        assert self._bins is not None
        pixels = max(float(everything.sum()), 1.0)
        # Few anomalies are told apart down to two a bin.
        anomalies = max(float(found.sum()), 2.0 / HEAVY)
        if everything.max() <= HEAVY * pixels and found.max() <= HEAVY * anomalies:
            return None
        return self._bins.refine(np.maximum(everything / pixels, found / anomalies), HEAVY, AIM)


def count_maps(
    masks: Iterable[ArrayLike | None], maps: Iterable[ArrayLike], *, exact: bool, regions: bool
) -> ThresholdCounts:
    """Count all pixels of pairs of masks and maps; ValueError where one of the two ends early."""
    counter = PixelCounter(exact=exact, regions=regions)
    for mask, scores in zip(masks, maps, strict=True):
        counter.add(mask, scores)
    return counter.counts()


def _joined(parts: list[Positions]) -> Positions:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.intp)


def _joined_floats(parts: list[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.zeros(0)
