"""Many records: the one-pass iterator that `Detector.detect` returns, and what can be asked of a list."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from offnominal.core.detections import Detection
from offnominal.decide import benjamini_hochberg


class Detections(Iterator[Detection]):
    """A one-pass iterator of records; `collect` materialises it."""

    def __init__(self, records: Iterator[Detection]) -> None:
        self._records = records

    def __iter__(self) -> Detections:
        return self

    def __next__(self) -> Detection:
        return next(self._records)

    def collect(self) -> DetectionList:
        """Go through the rest and keep it (maps included: use the iterator for large sources)."""
        return DetectionList(self._records)


class DetectionList(list[Detection]):
    """Records in memory."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> Detection: ...
    @overload
    def __getitem__(self, index: slice) -> DetectionList: ...
    def __getitem__(self, index: Any) -> Any:
        """Return a record, or a `DetectionList` for a slice."""
        found = super().__getitem__(index)
        return DetectionList(found) if isinstance(index, slice) else found

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """Scores (n,), NaN where an item could not be used."""
        return np.array([math.nan if found.score is None else found.score for found in self])

    @property
    def p_values(self) -> npt.NDArray[np.float64]:
        """p-values (n,), NaN where there is none."""
        return np.array([math.nan if found.p_value is None else found.p_value for found in self])

    @property
    def errors(self) -> DetectionList:
        """The records of items that could not be used."""
        return DetectionList(found for found in self if found.error is not None)

    def control_fdr(self, q: float) -> DetectionList:
        """Return the same records with verdicts that hold the false-discovery rate at ``q``.

        Benjamini–Hochberg over all records that have a p-value; the others keep no verdict.
        """
        rejected, _ = benjamini_hochberg(self.p_values, q)
        return DetectionList(
            replace(found, anomalous=None if found.p_value is None else bool(verdict))
            for found, verdict in zip(self, rejected, strict=True)
        )
