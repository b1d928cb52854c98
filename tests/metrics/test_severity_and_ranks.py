"""Severity, rank and top-n measures against scipy, scikit-learn and plain counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score, roc_auc_score

from offnominal import metrics

LEVELLED = st.integers(1, 50).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 4), min_size=n, max_size=n),
        st.lists(st.integers(-5, 5), min_size=n, max_size=n),
    )
)


@settings(deadline=None)
@given(LEVELLED)
def test_concordance_equals_looking_at_every_pair(levelled):
    levels, scores = levelled
    gained = [
        (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
        for i in range(len(levels))
        for j in range(len(levels))
        if levels[i] > levels[j]
    ]
    found = metrics.concordance_index(levels, scores)
    if gained:
        assert found == pytest.approx(np.mean(gained), abs=1e-12)
        assert metrics.concordance_index(levels, -np.asarray(scores)) == pytest.approx(1 - found)
    else:
        assert np.isnan(found)


def test_concordance_of_many_items_and_of_two_levels():
    rng = np.random.default_rng(0)
    levels = rng.normal(size=200_000)
    scores = levels + rng.normal(size=200_000)
    # No ties: Kendall's tau is 2 C − 1.
    tau = stats.kendalltau(levels, scores).statistic
    assert metrics.concordance_index(levels, scores) == pytest.approx((tau + 1) / 2, abs=1e-12)
    binary, rounded = levels > 1, np.round(scores, 1)
    assert metrics.concordance_index(binary, rounded) == pytest.approx(metrics.auroc(binary, rounded))
    assert metrics.concordance_index(levels, np.exp(levels)) == 1.0


@settings(deadline=None)
@given(LEVELLED)
def test_level_wise_auroc_equals_scikit_learn(levelled):
    levels, scores = map(np.asarray, levelled)
    found = metrics.auroc_by_level(levels, scores)
    assert list(found) == sorted(set(levels[levels != 0].astype(float)))
    for level, area in found.items():
        used = (levels == 0) | (levels == level)
        if not (levels == 0).any():
            assert np.isnan(area)
        else:
            assert area == pytest.approx(roc_auc_score(levels[used] == level, scores[used]))


def test_severity_refuses_what_cannot_be_compared():
    for measure in (metrics.concordance_index, metrics.auroc_by_level):
        with pytest.raises(ValueError, match="one length"):
            measure([0, 1, 2], [0.0, 1.0])
        with pytest.raises(ValueError, match="levels must be finite"):
            measure([0, np.nan], [0.0, 1.0])
        with pytest.raises(ValueError, match="scores must be finite"):
            measure([0, 1], [0.0, np.inf])


TABLE = st.tuples(st.integers(2, 6), st.integers(2, 8)).flatmap(
    lambda shape: st.lists(
        st.lists(st.integers(0, 4), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    )
)


@settings(deadline=None)
@given(TABLE)
def test_ranks_and_friedman_equal_scipy(table):
    results = np.asarray(table, dtype=float)
    np.testing.assert_allclose(metrics.mean_rank(results), stats.rankdata(-results, axis=1).mean(axis=0))
    np.testing.assert_allclose(
        metrics.mean_rank(results, higher_is_better=False), stats.rankdata(results, axis=1).mean(axis=0)
    )
    found = metrics.compare_ranks(results)
    if np.ptp(results, axis=1).max() == 0:
        assert (found.statistic, found.p_value) == (0.0, 1.0)
    elif results.shape[1] > 2:  # scipy's test starts at three methods
        expected = stats.friedmanchisquare(*results.T)
        assert found.statistic == pytest.approx(expected.statistic, abs=1e-9)
        assert found.p_value == pytest.approx(expected.pvalue, abs=1e-9)


@pytest.mark.parametrize("methods", [2, 3, 10, 30, 100])
@pytest.mark.parametrize("alpha", [0.1, 0.05, 0.001])
def test_range_quantiles_equal_scipy(methods, alpha):
    expected = stats.studentized_range.ppf(1 - alpha, methods, np.inf)
    assert metrics.studentised_range_quantile(1 - alpha, methods) == pytest.approx(expected, rel=1e-6)


def test_critical_values_are_those_of_the_printed_table():
    # Demšar 2006, table 5(a): q at 0.05 for 2 … 10 methods, two-tailed Nemenyi test.
    printed = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    for methods, value in zip(range(2, 11), printed, strict=True):
        quantile = metrics.studentised_range_quantile(0.95, methods) / np.sqrt(2)
        assert quantile == pytest.approx(value, abs=1.1e-3)
    rng = np.random.default_rng(0)
    found = metrics.compare_ranks(rng.normal(size=(14, 4)))
    # The same paper's example: 4 methods, 14 data sets.
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    assert found.datasets == 14


def test_groups_are_the_bars_of_the_diagram():
    rng = np.random.default_rng(0)
    strength = np.asarray([0.0, 3.0, 0.1, 3.1, 20.0])
    found = metrics.compare_ranks(strength + rng.normal(size=(60, 5)))
    assert found.p_value < 1e-9
    assert [sorted(bar) for bar in found.groups()] == [[1, 3], [0, 2]]
    order = np.argsort(found.mean_ranks)
    assert order[0] == 4
    alike = metrics.compare_ranks(rng.normal(size=(10, 3)))
    assert [sorted(bar) for bar in alike.groups()] == [[0, 1, 2]]


def test_the_tests_reject_as_often_as_they_say():
    rng = np.random.default_rng(3)
    draws = [metrics.compare_ranks(rng.normal(size=(30, 5)), alpha=0.1) for _ in range(200)]
    assert np.mean([d.p_value <= 0.1 for d in draws]) == pytest.approx(0.1, abs=0.06)
    apart = [np.ptp(d.mean_ranks) > d.critical_difference for d in draws]
    assert np.mean(apart) == pytest.approx(0.1, abs=0.06)


def test_tables_that_cannot_be_ranked_are_refused():
    for results in ([1.0, 2.0], np.zeros((0, 3)), np.zeros((3, 0))):
        with pytest.raises(ValueError, match="table"):
            metrics.mean_rank(results)
    with pytest.raises(ValueError, match="finite"):
        metrics.mean_rank([[1.0, np.nan]])
    with pytest.raises(ValueError, match="two methods"):
        metrics.compare_ranks([[1.0], [2.0]])
    with pytest.raises(ValueError, match="alpha"):
        metrics.compare_ranks([[1.0, 2.0]], alpha=1.0)
    with pytest.raises(ValueError, match="groups"):
        metrics.studentised_range_quantile(0.95, 1)


@settings(deadline=None)
@given(LEVELLED, st.data())
def test_precision_at_n_is_the_mean_over_orders_of_tied_items(levelled, data):
    labels, scores = np.asarray(levelled[0]) > 2, np.asarray(levelled[1])
    n = data.draw(st.integers(1, len(labels)))
    found = metrics.precision_at_n(labels, scores, n)
    if not labels.any():
        assert np.isnan(found)
        return
    cut = np.sort(scores)[::-1][n - 1]
    sure, tied = labels[scores > cut], labels[scores == cut]
    expected = (sure.sum() + (n - len(sure)) * tied.mean()) / n
    assert found == pytest.approx(expected)


def test_precision_at_the_number_of_anomalies_is_recall_and_f1():
    rng = np.random.default_rng(0)
    labels = rng.random(500) < 0.1
    scores = rng.normal(size=500) + labels
    top = np.zeros(500, dtype=int)
    top[np.argsort(scores)[::-1][: labels.sum()]] = 1
    expected = f1_score(labels, top)
    assert metrics.precision_at_n(labels, scores) == pytest.approx(expected)
    assert metrics.f1_at_contamination(labels, scores) == pytest.approx(expected)
    tenth = scores > np.percentile(scores, 75)
    assert metrics.f1_at_contamination(labels, scores, 0.25) == pytest.approx(f1_score(labels, tenth))


def test_adjusted_precision_is_0_by_chance_and_1_at_best():
    labels = np.zeros(1000, dtype=int)
    labels[:50] = 1
    perfect = labels.astype(float)
    for n in (10, 50, 200):
        assert metrics.precision_at_n(labels, perfect, n, adjusted=True) == pytest.approx(1.0)
        assert metrics.precision_at_n(labels, np.zeros(1000), n, adjusted=True) == pytest.approx(0.0)
    assert metrics.precision_at_n(labels, -perfect, adjusted=True) < 0
    assert np.isnan(metrics.precision_at_n([1, 1], [0.0, 1.0], adjusted=True))


def test_top_measures_refuse_impossible_sizes():
    for n in (0, 3):
        with pytest.raises(ValueError, match="n must be"):
            metrics.precision_at_n([0, 1], [0.0, 1.0], n)
    with pytest.raises(ValueError, match="contamination"):
        metrics.f1_at_contamination([0, 1], [0.0, 1.0], 1.5)
    assert np.isnan(metrics.f1_at_contamination([0, 0], [0.0, 1.0]))
    assert np.isnan(metrics.precision_at_n([], []))
