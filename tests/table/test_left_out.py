"""Decisions of vector detectors rest on scores of rows the model has not seen, without fitting it n times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import offnominal as off
from offnominal.core.seeds import generator
from offnominal.data import tables
from offnominal.decide import Conformal
from offnominal.table import neighbours
from offnominal.table.kmeans import kmeans


def _mixed(seed: int, count: int = 66) -> np.ndarray:
    """Correlated rows with a few far ones, the last column in whole numbers: ties and single ends."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, 4)) @ random.normal(size=(4, 4))
    rows[-6:] *= 4
    rows[:, 3] = np.round(rows[:, 3])
    return rows


def _really_left_out(rows: np.ndarray, name: str, **parameters: Any) -> np.ndarray:
    scores = []
    for row in range(len(rows)):
        judge = off.make(name, "table", scaling="none", **parameters).fit(np.delete(rows, row, axis=0))
        scores.append(judge.anomaly_score(rows[row : row + 1])[0])
    return np.array(scores)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("ecod", {}),
        ("ecod", {"aggregate": "rows"}),
        ("copod", {}),
        ("copod", {"aggregate": "rows"}),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_tails_leave_a_row_out_exactly(name: str, parameters: dict[str, Any], seed: int) -> None:
    rows = _mixed(seed)
    found = off.make(name, "table", scaling="none", **parameters).fit_score(rows)
    np.testing.assert_allclose(found, _really_left_out(rows, name, **parameters), rtol=1e-9)


def test_histograms_leave_a_row_out_up_to_where_their_range_ends() -> None:
    rows = _mixed(0)
    found = off.make("hbos", "table").fit_score(rows)
    expected = _really_left_out(rows, "hbos")
    inside = ((rows > rows.min(axis=0)) & (rows < rows.max(axis=0))).all(axis=1)
    np.testing.assert_allclose(found[inside], expected[inside], rtol=1e-9)
    np.testing.assert_allclose(found[~inside], expected[~inside], atol=1.0)


@pytest.mark.parametrize("name", ["iforest", "inne"])
def test_samples_that_lack_a_row_judge_it(name: str) -> None:
    rows = _mixed(1, 400)
    detector = off.make(name, "table", sample=16, **({"trees": 40} if name == "iforest" else {"rounds": 40}))
    found = detector.fit_score(rows)
    row = int(np.argmax(found))
    drawn = detector._drawn
    seen = (drawn == row).any(axis=1)
    encoded = (rows[row : row + 1] - rows.mean(axis=0)) / rows.std(axis=0)
    if name == "iforest":
        from offnominal.table import forest

        kept = {**detector.forest_, "roots": detector.forest_["roots"][~seen]}
        expected = 2 ** (-forest.mean_depths(kept, encoded) / forest.average_path(16))
    else:
        each = np.array([values[0] for values in detector._each(encoded)])
        expected = each[~seen].mean(keepdims=True)
    np.testing.assert_allclose(found[row], expected[0], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["ecod", "hbos", "loda", "cblof", "iforest", "inne", "gmm", "mcd", "pca", "kde", "knn"]
)
def test_decisions_hold_their_rate_on_few_rows(name: str) -> None:
    random = np.random.default_rng(5)
    rates = []
    for repeat in range(60):
        train, new = random.normal(size=(80, 4)), random.normal(size=(400, 4))
        parameters = {"sample": 16} if name == "iforest" else {}
        detector = off.make(name, "table", seed=repeat, **parameters).fit(train, decision=Conformal(0.1))
        rates.append(detector.predict(new).mean())
    error = np.std(rates) / len(rates) ** 0.5
    assert np.mean(rates) < 0.1 + 3 * error


def test_rows_that_belong_together_are_judged_by_folds() -> None:
    rows = _mixed(2, 40)
    pairs = np.repeat(rows, 2, axis=0)
    groups = np.repeat(np.arange(40), 2).tolist()
    alone = off.make("ecod", "table").fit_score(pairs)
    together = off.make("ecod", "table").fit_score(tables(pairs, groups=groups))
    assert together.max() > alone.max()  # its twin no longer vouches for a row


def test_a_killed_fit_goes_on_with_the_same_scores(tmp_path) -> None:
    rows = _mixed(3, 200)
    plain = off.make("hbos", "table").fit(rows)
    kept = off.make("hbos", "table").fit(rows, checkpoint=tmp_path / "partial")
    assert plain.decision_ is not None
    assert kept.decision_ is not None
    np.testing.assert_array_equal(plain.decision_.state()["scores"], kept.decision_.state()["scores"])
    np.testing.assert_array_equal(plain.anomaly_score(rows), kept.anomaly_score(rows))


def test_screening_in_single_precision_finds_the_nearest_of_near_ties_and_far_queries() -> None:
    pytest.importorskip("offnominal.table.compiled")
    from scipy.spatial import cKDTree

    random = np.random.default_rng(0)
    bank = 1e3 + random.normal(size=(4_500, 12)) * 1e-4  # differences near the rounding of single precision
    bank[100:140] = bank[100]
    bank[-1] = 1e6
    queries = np.concatenate([bank[90:150], bank[:50] + 1e-9, np.full((2, 12), 1e15), bank[-1:]])
    search = neighbours.Neighbours(bank)
    assert search._tree is None
    distances, rows = search.search(queries, 5)
    expected = cKDTree(bank).query(queries, k=5)[0]
    np.testing.assert_allclose(distances, expected, rtol=1e-9, atol=1e-12)
    apart = np.linalg.norm(queries[:, None] - bank[rows], axis=2)
    np.testing.assert_allclose(apart, distances, rtol=1e-12)


def test_kmeans_goes_on_from_given_centres() -> None:
    rows = np.concatenate([_mixed(4), _mixed(5) + 40])
    first = kmeans(rows, 2, generator(0, "test"))
    again = kmeans(rows, 2, generator(0, "test"), start=first)
    np.testing.assert_allclose(again, first)
