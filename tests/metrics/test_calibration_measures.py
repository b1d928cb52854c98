"""Calibration measures against scipy and simulation; the bootstrap against its own promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from offnominal import metrics


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_uniformity_equals_scipy(values):
    found = metrics.p_value_uniformity(values)
    assert found.ks == pytest.approx(stats.kstest(values, "uniform").statistic, abs=1e-12)
    one_sided = stats.kstest(values, "uniform", alternative="greater", method="exact")
    assert found.excess == pytest.approx(max(one_sided.statistic, 0), abs=1e-12)
    assert found.p_value == pytest.approx(one_sided.pvalue, abs=1e-8)


def test_safe_p_values_have_no_excess_and_unsafe_ones_are_found():
    uniform = (np.arange(200) + 0.5) / 200
    assert metrics.p_value_uniformity(np.sqrt(uniform)).excess < 0.01
    unsafe = metrics.p_value_uniformity(uniform**2)
    assert unsafe.excess == pytest.approx(0.25, abs=0.01)
    assert unsafe.p_value < 1e-8
    assert np.isnan(metrics.p_value_uniformity([]).ks)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        metrics.p_value_uniformity([1.5])


def test_the_spread_is_that_of_the_beta_binomial():
    for n, m, rate in ((99, 50, 0.1), (40, 7, 0.05), (200, 1000, 0.01)):
        k = int(np.floor(rate * (n + 1) + 1e-9))
        expected = stats.betabinom(m, k, n + 1 - k)
        mean, std = metrics.false_alarm_spread(n, m, rate)
        assert mean == pytest.approx(expected.mean() / m)
        assert std == pytest.approx(expected.std() / m)
    assert metrics.false_alarm_spread(10, 5, 0.01) == (0.0, 0.0)
    assert metrics.false_alarm_spread(99, 5, 0.29)[0] == pytest.approx(0.29)


def test_the_spread_is_what_conformal_decisions_do():
    rng = np.random.default_rng(0)
    n, m, rate = 59, 40, 0.1
    scores = rng.normal(size=(4000, n + m))
    limits = np.sort(scores[:, :n], axis=1)[:, n - 6 + 0]  # p = (1 + #above) / 60 is at most 6 / 60
    rates = np.mean(scores[:, n:] > limits[:, None], axis=1)
    mean, std = metrics.false_alarm_spread(n, m, rate)
    assert rates.mean() == pytest.approx(mean, abs=4 * std / np.sqrt(4000))
    assert rates.std() == pytest.approx(std, rel=0.06)


def test_realised_rate_leaves_out_anomalies_and_items_without_verdict():
    assert metrics.realised_false_alarm_rate([0, 0, 0, 0, 1], [1, 0, 0, -1, 1]) == pytest.approx(1 / 3)
    assert np.isnan(metrics.realised_false_alarm_rate([1, 0], [1, -1]))
    with pytest.raises(ValueError, match="verdicts"):
        metrics.realised_false_alarm_rate([0], [2])


def test_bootstrap_tells_a_better_detector_and_repeats_itself():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [150, 50])
    good, poor = labels * 2 + rng.normal(size=200), labels * 0.5 + rng.normal(size=200)
    found = metrics.paired_bootstrap(labels, good, poor, metrics.auroc, 300, 7)
    assert found.difference == metrics.auroc(labels, good) - metrics.auroc(labels, poor)
    assert 0 < found.lower < found.difference < found.upper
    assert found == metrics.paired_bootstrap(labels, good, poor, metrics.auroc, 300, 7)
    same = metrics.paired_bootstrap(labels, good, 3 * good + 1, metrics.average_precision, 50)
    assert (same.difference, same.lower, same.upper) == pytest.approx((0, 0, 0), abs=1e-12)
    assert np.isnan(metrics.paired_bootstrap([0, 0], [1, 2], [2, 1]).difference)


def test_bootstrap_spread_agrees_with_the_spread_over_fresh_samples():
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], [100, 100])

    def draw():
        shared = rng.normal(size=200)
        return labels + shared, 0.6 * labels + shared + 0.5 * rng.normal(size=200)

    fresh = [metrics.auroc(labels, a) - metrics.auroc(labels, b) for a, b in (draw() for _ in range(300))]
    widths = []
    for seed in range(10):
        found = metrics.paired_bootstrap(labels, *draw(), resamples=200, seed=seed)
        widths.append(found.upper - found.lower)
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(fresh), rel=0.25)
