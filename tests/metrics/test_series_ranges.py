"""Measures of predicted ranges equal their papers' definitions, written out plainly, and TSB-AD's values."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from offnominal import metrics

PAIRS = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 1), min_size=n, max_size=n),
        st.lists(st.integers(0, 1), min_size=n, max_size=n),
    )
)


def events(flags):
    """Lists of the steps of every run of ones."""
    found: list[list[int]] = []
    for t, flag in enumerate(flags):
        if flag:
            if t and flags[t - 1]:
                found[-1].append(t)
            else:
                found.append([t])
    return found


def same(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-12)


def harmonic(precision, recall):
    if np.isnan(recall):
        return np.nan
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def range_reward(of, by, alpha, bias, cardinality):
    def delta(i, length):
        if bias == "flat":
            return 1
        if bias == "front":
            return length - i + 1
        if bias == "back":
            return i
        return i if i <= length / 2 else length - i + 1

    rewards = []
    for own in events(of):
        weights = [delta(i + 1, len(own)) for i in range(len(own))]
        others = [other for other in events(by) if set(other) & set(own)]
        overlap = sum(w for w, t in zip(weights, own, strict=True) if by[t]) / sum(weights)
        if len(others) > 1 and cardinality == "reciprocal":
            overlap /= len(others)
        rewards.append(alpha * bool(others) + (1 - alpha) * overlap)
    return np.mean(rewards) if rewards else np.nan


@settings(deadline=None)
@given(
    PAIRS,
    st.sampled_from([0.0, 0.2, 1.0]),
    st.sampled_from(["flat", "front", "middle", "back"]),
    st.sampled_from(["reciprocal", "one"]),
)
def test_range_based_measures_equal_the_definition(pair, alpha, bias, cardinality):
    labels, predictions = pair
    options = {"bias": bias, "cardinality": cardinality}
    recall = range_reward(labels, predictions, alpha, bias, cardinality)
    precision = range_reward(predictions, labels, 0.0, bias, cardinality)
    same(metrics.range_recall(labels, predictions, alpha=alpha, **options), recall)
    same(metrics.range_precision(labels, predictions, **options), precision)
    flat = range_reward(predictions, labels, 0.0, "flat", cardinality)
    same(
        metrics.range_f1(labels, predictions, alpha=alpha, **options),
        harmonic(np.nan_to_num(flat), recall),
    )


def affiliation_plainly(labels, predictions):
    """The paper's integrals as sums: between quarters of steps all integrands are straight lines."""
    n = len(labels)
    truth = [(e[0], e[-1] + 1) for e in events(labels)]
    cuts = [0.0] + [(a[1] + b[0]) / 2 for a, b in pairwise(truth)] + [float(n)]
    moments = np.arange(0.125, n, 0.25)
    predicted = np.asarray(predictions)[moments.astype(int)] == 1
    precisions, recalls = [], []
    for (a, b), u, v in zip(truth, cuts, cuts[1:], strict=False):
        inside = (moments > u) & (moments < v)
        rewards = []
        for x in moments[inside & predicted]:
            d = max(a - x, x - b, 0.0)
            nearer = min(b + d, v) - max(a - d, u)
            rewards.append(1.0 - nearer / (v - u) if d > 0 else 1.0)
        precisions.append(np.mean(rewards) if rewards else np.nan)
        pieces = [(max(e[0], u), min(e[-1] + 1, v)) for e in events(predictions)]
        pieces = [(p, q) for p, q in pieces if p < q]
        rewards = []
        for y in moments[(moments > a) & (moments < b)]:
            if not pieces:
                rewards.append(0.0)
                continue
            d = min(max(p - y, y - q, 0.0) for p, q in pieces)
            rewards.append(1.0 - (min(y + d, v) - max(y - d, u)) / (v - u))
        recalls.append(np.mean(rewards))
    return np.asarray(precisions), np.asarray(recalls)


@settings(deadline=None, max_examples=150)
@given(PAIRS)
def test_affiliation_equals_the_integrals_of_the_paper(pair):
    labels, predictions = pair
    found = metrics.affiliation(labels, predictions)
    if not any(labels):
        assert np.isnan(found.recall)
        assert np.isnan(found.f1)
        return
    precisions, recalls = affiliation_plainly(labels, predictions)
    same(found.precisions, precisions)
    same(found.recalls, recalls)
    held = precisions[~np.isnan(precisions)]
    same(found.precision, held.mean() if len(held) else np.nan)
    same(metrics.affiliation_precision(labels, predictions), found.precision)
    same(metrics.affiliation_recall(labels, predictions), recalls.mean())
    same(
        metrics.affiliation_f1(labels, predictions),
        harmonic(np.nan_to_num(found.precision), recalls.mean()),
    )


def test_a_near_miss_is_nearly_a_hit():
    labels = np.zeros(1000, dtype=int)
    labels[500:520] = 1
    near, far = np.roll(labels, 25), np.roll(labels, 300)
    assert metrics.affiliation_f1(labels, near) > 0.9 > 0.6 > metrics.affiliation_f1(labels, far)
    assert metrics.range_f1(labels, near) == metrics.event_f1(labels, near) == 0.0
    assert metrics.affiliation_f1(labels, labels) == 1.0


@settings(deadline=None)
@given(PAIRS)
def test_event_measures_equal_counting(pair):
    labels, predictions = pair
    truth, called = events(labels), events(predictions)
    found = [e for e in truth if any(predictions[t] for t in e)]
    right = [e for e in called if any(labels[t] for t in e)]
    recall = len(found) / len(truth) if truth else np.nan
    same(
        metrics.event_f1(labels, predictions),
        harmonic(len(right) / len(called) if called else 0.0, recall),
    )
    hits = sum(a and b for a, b in zip(labels, predictions, strict=True))
    same(
        metrics.composite_f1(labels, predictions),
        harmonic(hits / sum(predictions) if called else 0.0, recall),
    )
    delay = metrics.detection_delay(labels, predictions)
    expected = [next((i for i, t in enumerate(e) if predictions[t]), np.nan) for e in truth]
    same(delay.delays, expected)
    assert (delay.events, delay.found) == (len(truth), len(found))
    if found:
        same((delay.mean, delay.median), (np.nanmean(expected), np.nanmedian(expected)))
    else:
        assert np.isnan(delay.mean)


def nab_plainly(labels, predictions, false_alarm, miss):
    def sigmoid(place):
        return 2 / (1 + np.exp(5 * place)) - 1

    windows = [(e[0], e[-1], len(e)) for e in events(labels)]
    total, done = 0.0, set()
    for t, call in enumerate(predictions):
        if not call:
            continue
        holding = [w for w in windows if w[0] <= t <= w[1]]
        if holding:
            if holding[0] not in done:
                done.add(holding[0])
                total += sigmoid(-(holding[0][1] - t + 1) / holding[0][2]) / sigmoid(-1)
            continue
        behind = [w for w in windows if w[1] < t]
        place = (t - behind[-1][1]) / max(behind[-1][2] - 1, 1) if behind else 3
        total += false_alarm * (sigmoid(place) if place < 3 else -1)
    total -= miss * (len(windows) - len(done))
    return 100 * (total + miss * len(windows)) / (len(windows) + miss * len(windows))


@settings(deadline=None)
@given(PAIRS)
def test_nab_score_equals_walking_through_the_series(pair):
    labels, predictions = pair
    for profile, costs in {"standard": (0.11, 1), "low_fp": (0.22, 1), "low_fn": (0.11, 2)}.items():
        found = metrics.nab_score(labels, predictions, profile)
        if any(labels):
            same(found, nab_plainly(labels, predictions, *costs))
        else:
            assert np.isnan(found)


def test_nab_score_is_0_for_silence_and_100_for_the_first_steps():
    labels = np.zeros(200, dtype=int)
    labels[50:70] = labels[120:140] = 1
    first, late, false = np.zeros((3, 200), dtype=int)
    first[[50, 120]] = 1
    late[[68, 138]] = 1
    false[[50, 120, 10]] = 1
    assert metrics.nab_score(labels, np.zeros(200)) == 0.0
    assert metrics.nab_score(labels, first) == pytest.approx(100.0)
    assert 50 < metrics.nab_score(labels, late) < 65
    standard = metrics.nab_score(labels, false)
    assert metrics.nab_score(labels, false, "low_fp") < standard < metrics.nab_score(labels, false, "low_fn")


@settings(deadline=None)
@given(PAIRS)
def test_point_adjustment_equals_filling_the_found_events(pair):
    labels, predictions = pair
    filled = list(predictions)
    for event in events(labels):
        if any(predictions[t] for t in event):
            for t in event:
                filled[t] = 1
    found = metrics.point_adjusted_f1(labels, predictions)
    if not any(labels):
        assert np.isnan(found)
    else:
        same(found, f1_score(labels, filled, zero_division=0))


@settings(deadline=None)
@given(
    PAIRS.filter(lambda pair: any(pair[0])),
    st.randoms(use_true_random=False),
)
def test_the_point_adjusted_maximum_equals_a_search_over_thresholds(pair, random):
    labels, _ = pair
    scores = [random.randint(-3, 3) for _ in labels]
    every = [
        metrics.point_adjusted_f1(labels, [int(score >= threshold) for score in scores])
        for threshold in set(scores)
    ]
    assert metrics.point_adjusted_f1_max(labels, scores) == pytest.approx(max(every))


def test_random_scores_look_excellent_under_point_adjustment_and_nowhere_else():
    rng = np.random.default_rng(0)
    labels = np.zeros(10_000, dtype=int)
    labels[4000:5000] = 1
    random = rng.random(10_000)
    assert metrics.point_adjusted_f1_max(labels, random) > 0.95
    assert metrics.f1_max(labels, random) < 0.25
    assert metrics.vus_pr(labels, random) < 0.25
    assert metrics.best_over_thresholds(metrics.range_f1, labels, random)[0] < 0.4
    assert metrics.best_over_thresholds(metrics.composite_f1, labels, random)[0] < 0.4


def test_the_best_threshold_is_the_one_whose_predictions_give_the_value():
    rng = np.random.default_rng(1)
    labels = np.zeros(300, dtype=int)
    labels[40:60] = labels[200:240] = 1
    scores = rng.normal(size=300) + labels
    for measure in (metrics.range_f1, metrics.affiliation_f1, metrics.nab_score):
        value, threshold = metrics.best_over_thresholds(measure, labels, scores, 30)
        assert measure(labels, scores > threshold) == value
        levels = np.linspace(scores.min(), scores.max(), 30)
        assert value == max(measure(labels, scores > level) for level in levels)
    assert all(np.isnan(metrics.best_over_thresholds(metrics.range_f1, [0, 0], [0.0, 1.0])))
    assert all(np.isnan(metrics.best_over_thresholds(metrics.range_f1, [], [])))
    with pytest.raises(ValueError, match="thresholds"):
        metrics.best_over_thresholds(metrics.range_f1, [0, 1], [0.0, 1.0], 0)


# Values of TSB-AD 1.5 (numpy 1.26.4, scikit-learn 1.9.1) on `example()`, best of its 100 thresholds.
RECORDED = {
    "range_f1": 0.3216457536801938,
    "composite_f1": 0.7769784172661864,
    "affiliation_f1": 0.9117380496351293,
    "point_adjusted_f1": 0.9816272965879265,
}
# Scores of NAB (numenta/NAB at ea702d7, without its probationary part) on `example()` with steps 301 to 304
# anomalous too, scaled as `nab_score` is: (profile, threshold) -> score.
RECORDED_NAB = {
    ("standard", 0.9): 38.84658894317453,
    ("standard", 1.2): 63.259369799380515,
    ("low_fp", 0.9): -0.3514655588689945,
    ("low_fp", 1.2): 60.939703155034465,
    ("low_fn", 0.9): 53.675503739894125,
    ("low_fn", 1.2): 64.39513542180923,
}


def example():
    """A series that needs no random generator, so that recorded values stay comparable."""
    t = np.arange(600)
    labels = np.zeros(600, dtype=int)
    # Nothing at step 0, which TSB-AD's point adjustment leaves out.
    for first, stop in ((3, 7), (90, 140), (143, 150), (300, 301), (330, 420), (560, 600)):
        labels[first:stop] = 1
    return labels, (t * 7919 % 1009) / 1009 + 0.4 * np.roll(labels, 3)


@pytest.mark.parametrize(("name", "value"), RECORDED.items())
def test_best_values_equal_the_recorded_ones_of_the_peer(name, value):
    measure = getattr(metrics, name)
    assert metrics.best_over_thresholds(measure, *example())[0] == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(("asked", "value"), RECORDED_NAB.items())
def test_nab_scores_equal_the_recorded_ones_of_the_benchmark(asked, value):
    labels, scores = example()
    labels[300:305] = 1
    assert metrics.nab_score(labels, scores > asked[1], asked[0]) == pytest.approx(value, abs=1e-9)


SERIES_MEASURES = [
    metrics.range_recall,
    metrics.range_precision,
    metrics.range_f1,
    metrics.event_f1,
    metrics.composite_f1,
    metrics.detection_delay,
    metrics.affiliation,
    metrics.nab_score,
    metrics.point_adjusted_f1,
]


@pytest.mark.parametrize("measure", SERIES_MEASURES)
def test_scores_in_the_place_of_predictions_are_refused(measure):
    with pytest.raises(ValueError, match="threshold first"):
        measure([0, 1], [0, 0.7])
    with pytest.raises(ValueError, match="one length"):
        measure([0, 1, 1], [0, 1])


@pytest.mark.parametrize("measure", [m for m in SERIES_MEASURES if m is not metrics.range_precision])
def test_without_an_anomaly_nothing_is_defined(measure):
    for labels, predictions in (([0, 0], [0, 1]), ([], [])):
        found = measure(labels, predictions)
        value = found if isinstance(found, float) else getattr(found, "recall", getattr(found, "mean", 0.0))
        assert np.isnan(value)


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="alpha"):
        metrics.range_recall([0, 1], [0, 1], alpha=1.5)
    with pytest.raises(ValueError, match="bias"):
        metrics.range_recall([0, 1], [0, 1], bias="late")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cardinality"):
        metrics.range_precision([0, 1], [0, 1], cardinality="two")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="profile"):
        metrics.nab_score([0, 1], [0, 1], "reckless")  # type: ignore[arg-type]
