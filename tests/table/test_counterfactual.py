"""What a row is compared with: the nearest normal rows, and the smallest change that makes it normal."""

from __future__ import annotations

import numpy as np
import pytest

import offnominal as off
from offnominal.core.errors import BadItem, BadSource, NoDecisionError
from offnominal.data import tables
from offnominal.decide import Conformal
from offnominal.table.counterfactual import counterfactual
from offnominal.table.nearest_rows import nearest_rows

RANDOM = np.random.default_rng(0)
NORMAL = RANDOM.normal(size=(200, 6)) @ np.diag([1, 2, 5, 0.1, 1, 1]) + 10


def _fitted(name: str, rows: object = NORMAL, **parameters: object) -> off.Detector:
    return off.make(name, "table", **parameters).fit(rows, decision=Conformal(0.05))


def test_nearest_rows_are_those_of_a_plain_search_in_scaled_units() -> None:
    detector = _fitted("knn")
    row = NORMAL[3] + [0, 4, 0, 0, 0, 0]
    near = nearest_rows(detector, tables(row[None]), tables(NORMAL), 4)
    scaled = (NORMAL - NORMAL.mean(axis=0)) / NORMAL.std(axis=0)
    apart = np.linalg.norm(scaled - (row - NORMAL.mean(axis=0)) / NORMAL.std(axis=0), axis=1)
    expected = np.argsort(apart)[:4]
    assert near.items == tuple(str(at) for at in expected)
    np.testing.assert_allclose(near.distances, apart[expected], rtol=1e-6)
    np.testing.assert_array_equal(near.rows.numbers, NORMAL[expected])


@pytest.mark.parametrize("name", ["knn", "gmm", "pca", "lof", "kde"])
def test_the_change_names_the_columns_that_are_off_and_makes_the_row_normal(name: str) -> None:
    detector = _fitted(name)
    row = NORMAL.mean(axis=0).copy()
    row[1] += 40
    assert detector.predict(row[None]).tolist() == [1]
    found = counterfactual(detector, tables(row[None]), tables(NORMAL))
    assert found is not None
    assert "1" in [change.column for change in found.changes]
    assert len(found.changes) <= 2
    mended = row.copy()
    for change in found.changes:
        place = int(change.column)
        assert change.value == row[place]
        mended[place] = change.becomes
    assert detector.predict(mended[None]).tolist() == [0]
    assert found.score == pytest.approx(detector.anomaly_score(mended[None])[0])


def test_no_more_is_moved_than_is_needed() -> None:
    detector = _fitted("knn")
    row = NORMAL.mean(axis=0).copy()
    row[2] += 60
    found = counterfactual(detector, tables(row[None]), tables(NORMAL))
    assert found is not None
    (change,) = found.changes
    # a little less than that is still off
    nearer = row.copy()
    nearer[2] = change.becomes + 0.01 * (row[2] - change.becomes)
    assert detector.predict(nearer[None]).tolist() == [1]


def test_whole_numbers_and_words_stay_what_they_are() -> None:
    random = np.random.default_rng(1)
    rows = [
        {"count": float(random.integers(2, 6)), "kind": str(random.choice(["a", "b"])), "x": random.normal()}
        for _ in range(120)
    ]
    detector = _fitted("knn", rows)
    row = [{"count": 90.0, "kind": "a", "x": 0.0}]
    found = counterfactual(detector, tables(row), tables(rows))
    assert found is not None
    changed = {change.column: change.becomes for change in found.changes}
    assert changed["count"] in {2.0, 3.0, 4.0, 5.0}
    assert changed.get("kind", "a") in {"a", "b"}


def test_a_normal_row_needs_no_change() -> None:
    detector = _fitted("knn")
    found = counterfactual(detector, tables(NORMAL.mean(axis=0)[None]), tables(NORMAL))
    assert found is not None
    assert found.changes == ()


def test_what_cannot_be_compared_is_said() -> None:
    detector = _fitted("knn")
    with pytest.raises(BadSource, match="one row"):
        nearest_rows(detector, tables(NORMAL[:2]), tables(NORMAL))
    with pytest.raises(BadSource, match="columns"):
        nearest_rows(detector, tables(NORMAL[:1]), tables(NORMAL[:, :3]))
    with pytest.raises(BadSource, match="no usable normal row"):
        nearest_rows(detector, tables(NORMAL[:1]), tables(NORMAL[:3], labels=[1, 1, 1]))
    holed = NORMAL[:1].copy()
    holed[0, 2] = np.nan
    with pytest.raises(BadItem, match="cannot be used"):
        nearest_rows(detector, tables(holed), tables(NORMAL))
    undecided = off.make("knn").fit(NORMAL[:8])
    with pytest.raises(NoDecisionError):
        counterfactual(undecided, tables(NORMAL[:1]), tables(NORMAL))
