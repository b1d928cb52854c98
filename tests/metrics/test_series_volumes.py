"""VUS and range-AUC equal their definition spelt out step by step, and TSB-AD's values."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offnominal import metrics

SERIES = st.integers(1, 60).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 1), min_size=n, max_size=n),
        st.lists(st.integers(-4, 4), min_size=n, max_size=n),
    )
)


def events(flags):
    """Inclusive first and last step of every run of ones."""
    found, start = [], None
    for t, flag in enumerate([*flags, 0]):
        if flag and start is None:
            start = t
        if not flag and start is not None:
            found.append((start, t - 1))
            start = None
    return found


def surface(labels, scores, buffers, thresholds):
    """Areas under both curves at every buffer, straight from the paper's formulae."""
    n, truth = len(labels), events(labels)
    falling = sorted(scores, reverse=True)
    levels = [falling[int(rank)] for rank in np.linspace(0, n - 1, thresholds)]
    roc, pr = [], []
    for buffer in buffers:
        soft = np.zeros(n)
        grown: list[list[int]] = []
        for first, last in truth:
            for t in range(n):
                distance = max(first - t, t - last, 0)
                if distance <= buffer // 2:
                    soft[t] += np.sqrt(1 - distance / buffer) if distance else 1.0
            begin, end = first - buffer // 2, last + buffer // 2
            if grown and grown[-1][1] >= begin:
                grown[-1][1] = end
            else:
                grown.append([begin, end])
        soft = np.minimum(soft, 1.0)
        curve = [(0.0, 0.0, 1.0)]
        for level in levels:
            called = np.asarray(scores) >= level
            hit = float(np.sum(soft * called))
            widened = sum(labels) + float(np.sum(soft * called * (1 - np.asarray(labels))))
            positives = (sum(labels) + widened) / 2
            touched = np.mean([called[max(a, 0) : b + 1].any() for a, b in grown])
            tpr = min(hit / positives, 1.0) * touched
            fpr = (called.sum() - hit) / (n - positives) if n > sum(labels) else np.nan
            curve.append((fpr, tpr, hit / called.sum()))
        pr.append(sum((b[1] - a[1]) * b[2] for a, b in pairwise(curve)))
        curve.append((1.0, 1.0, np.nan))
        roc.append(sum((b[0] - a[0]) * (b[1] + a[1]) / 2 for a, b in pairwise(curve)))
    return np.asarray(roc), np.asarray(pr)


@settings(deadline=None, max_examples=150)
@given(SERIES, st.integers(0, 13), st.integers(1, 12))
def test_volumes_equal_the_definition(series, window, thresholds):
    labels, scores = series
    if not any(labels):
        assert np.isnan(metrics.vus_roc(labels, scores, window, thresholds))
        assert np.isnan(metrics.vus_pr(labels, scores, window, thresholds))
        return
    roc, pr = surface(labels, scores, range(window + 1), thresholds)
    found = metrics.range_surface(labels, scores, window, thresholds)
    np.testing.assert_allclose(found.roc_areas, roc, atol=1e-12)
    np.testing.assert_allclose(found.precision_areas, pr, atol=1e-12)
    np.testing.assert_allclose(metrics.vus_roc(labels, scores, window, thresholds), roc.mean(), atol=1e-12)
    assert metrics.vus_pr(labels, scores, window, thresholds) == pytest.approx(pr.mean(), abs=1e-12)
    np.testing.assert_allclose(metrics.range_auc_roc(labels, scores, window, thresholds), roc[-1], atol=1e-12)
    assert metrics.range_auc_pr(labels, scores, window, thresholds) == pytest.approx(pr[-1], abs=1e-12)


def example(n=600):
    """A series that needs no random generator, so that recorded values stay comparable."""
    t = np.arange(n)
    labels = np.zeros(n, dtype=int)
    for first, stop in ((0, 7), (90, 140), (143, 150), (300, 301), (330, 420), (560, 600)):
        labels[first:stop] = 1
    scores = (t * 7919 % 1009) / 1009 + 0.4 * np.roll(labels, 3)
    return labels, scores


# Values of TSB-AD 1.5 (numpy 1.26.4) on `example()`: (window, thresholds) -> VUS-ROC, VUS-PR.
RECORDED = {
    (100, 250): (0.9079200843202723, 0.8520408086061686),
    (20, 50): (0.824148472794327, 0.7309649699829912),
    (5, 600): (0.7693835068089699, 0.6746939329708783),
}


@pytest.mark.parametrize(("asked", "values"), RECORDED.items())
def test_volumes_equal_the_recorded_values_of_the_peer(asked, values):
    labels, scores = example()
    assert metrics.vus_roc(labels, scores, *asked) == pytest.approx(values[0], abs=1e-9)
    assert metrics.vus_pr(labels, scores, *asked) == pytest.approx(values[1], abs=1e-9)


def test_without_buffer_and_with_every_threshold_one_anomaly_gives_the_usual_areas():
    rng = np.random.default_rng(0)
    labels = np.zeros(400, dtype=int)
    labels[100:160] = 1
    scores = rng.normal(size=400) + labels
    # The best score lies in the anomaly, so it is touched at every threshold.
    scores[120] = 9.0
    assert metrics.vus_roc(labels, scores, 0, 400) == pytest.approx(metrics.auroc(labels, scores))
    assert metrics.vus_pr(labels, scores, 0, 400) == pytest.approx(metrics.average_precision(labels, scores))


def test_a_late_alarm_costs_less_with_a_buffer():
    labels = np.zeros(500, dtype=int)
    labels[200:240] = 1
    scores = np.roll(labels, 15).astype(float)
    scores += np.linspace(0, 1e-6, 500)
    assert metrics.range_auc_pr(labels, scores, 60) > metrics.range_auc_pr(labels, scores, 0) + 0.1


def test_only_the_order_of_scores_counts():
    labels, scores = example()
    assert metrics.vus_pr(labels, np.exp(5 * scores)) == metrics.vus_pr(labels, scores)
    assert metrics.vus_roc(labels, scores.astype(np.float32)) == pytest.approx(
        metrics.vus_roc(labels, scores), abs=1e-6
    )


def test_one_class_and_nothing():
    assert np.isnan(metrics.vus_roc([1, 1, 1], [1.0, 2.0, 3.0]))
    assert metrics.vus_pr([1, 1, 1], [1.0, 2.0, 3.0], thresholds=3) == pytest.approx(1.0)
    for measure in (metrics.vus_roc, metrics.vus_pr, metrics.range_auc_roc, metrics.range_auc_pr):
        assert np.isnan(measure([], []))
        assert np.isnan(measure([0, 0], [1.0, 2.0]))


@pytest.mark.parametrize(("window", "thresholds"), [(-1, 250), (100, 0)])
def test_impossible_options_are_refused(window, thresholds):
    for measure in (metrics.vus_roc, metrics.vus_pr, metrics.range_auc_roc, metrics.range_auc_pr):
        with pytest.raises(ValueError, match="window"):
            measure([0, 1], [0.0, 1.0], window, thresholds)


@pytest.mark.parametrize("anomaly_share", [0.002, 0.2])
def test_cost_grows_no_faster_than_length(anomaly_share):
    rng = np.random.default_rng(0)

    def seconds(n):
        labels, scores = rng.random(n) < anomaly_share, rng.normal(size=n)
        took = []
        for _ in range(3):
            began = time.perf_counter()
            metrics.vus_pr(labels, scores)
            took.append(time.perf_counter() - began)
        return min(took)

    # Ten times the steps: a quadratic measure takes a hundred times as long.
    assert seconds(500_000) < 35 * seconds(50_000)
