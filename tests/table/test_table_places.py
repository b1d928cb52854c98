"""A record names the columns that are off; a row's record does not depend on how rows are read."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

import offnominal as off
from offnominal.data import tables
from offnominal.decide import Conformal

NAMES = [f"column {i}" for i in range(6)]
LOCALISING = [
    c.name for c in off.catalogue() if c.modality == "table" and c.kind == "detector" and c.localises
]


def _frame(n: int, seed: int) -> pl.DataFrame:
    return pl.DataFrame(np.random.default_rng(seed).normal(size=(n, 6)), schema=NAMES)


@pytest.mark.parametrize("name", [name for name in LOCALISING if name != "copod"])  # it halves the other tail
def test_records_name_the_column_that_is_off(name: str) -> None:
    detector = off.make(name, "table").fit(_frame(400, 0))
    odd = _frame(20, 1).with_columns(pl.lit(9.0).alias("column 4"))
    named = [found.regions[0].where for found in detector.detect(odd) if found.regions]
    assert len(named) >= 18
    assert named.count("column 4") >= 18
    quiet = [found for found in detector.detect(_frame(200, 2)) if found.regions]
    assert len(quiet) <= 0.1 * 200


def test_records_come_in_order_with_bad_rows_among_them() -> None:
    values = _frame(50, 3).to_numpy().copy()
    values[[7, 8, 30], 2] = np.nan
    detector = off.make("knn").fit(_frame(100, 0).to_numpy(), decision=Conformal(0.1))
    found = detector.detect(values).collect()
    assert [record.item for record in found] == [str(i) for i in range(50)]
    assert [i for i, record in enumerate(found) if record.error] == [7, 8, 30]
    assert "column '2'" in (found[7].error or "")
    good = np.delete(values, [7, 8, 30], axis=0)
    np.testing.assert_allclose([r.score for r in found if r.score is not None], detector.anomaly_score(good))
    imputing = off.make("knn", missing="impute").fit(_frame(100, 0).to_numpy())
    assert np.isfinite(imputing.anomaly_score(values)).all()


def test_blocks_and_single_rows_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    source = tables(_frame(150, 4))

    class OneByOne:
        name, modality = source.name, source.modality
        references, read, mask = source.references, source.read, source.mask
        subset = source.subset

        def __len__(self) -> int:
            return len(source)

    for name in ("knn", "ecod", "pca", "iforest"):
        detector: Any = off.make(name, "table").fit(source)
        by_block = detector.anomaly_score(source)
        np.testing.assert_allclose(detector.anomaly_score(OneByOne()), by_block, rtol=1e-9)
        monkeypatch.setattr(type(detector), "batch_size", 17)
        np.testing.assert_allclose(detector.anomaly_score(source), by_block, rtol=1e-9)
        monkeypatch.undo()


def test_labelled_rows_are_left_out_and_skipped_ones_passed_over() -> None:
    values = _frame(60, 5).to_numpy().copy()
    values[:5] += 50
    values[59, 0] = np.inf
    labels = [1] * 5 + [0] * 55
    detector = off.make("pca").fit(tables(values, labels=labels, on_bad="skip"))
    clean = off.make("pca").fit(values[5:59])
    np.testing.assert_allclose(detector.anomaly_score(values[:9]), clean.anomaly_score(values[:9]), rtol=1e-9)
    assert detector.decision_ is not None
    assert detector.decision_.report()["n"] == 54
