"""Item-level measures agree with scikit-learn, with brute force, and keep what ranking promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from offnominal import metrics

COLUMN = st.integers(2, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 1), min_size=n, max_size=n).filter(lambda v: 0 < sum(v) < len(v)),
        st.lists(st.integers(-6, 6), min_size=n, max_size=n),
    )
)


@pytest.fixture(params=["distinct", "tied", "float32"])
def ranked(request):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 300)
    scores = rng.normal(size=300) + labels
    return labels, {"distinct": scores, "tied": np.round(scores), "float32": scores.astype(np.float32)}[
        request.param
    ]


def test_areas_equal_scikit_learn(ranked):
    labels, scores = ranked
    assert metrics.auroc(labels, scores) == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-12)
    assert metrics.average_precision(labels, scores) == pytest.approx(
        reference.average_precision_score(labels, scores), abs=1e-12
    )
    for limit in (0.05, 0.1, 0.37, 1.0):
        assert metrics.partial_auroc(labels, scores, limit) == pytest.approx(
            reference.roc_auc_score(labels, scores, max_fpr=limit), abs=1e-12
        )


def test_curves_equal_scikit_learn(ranked):
    labels, scores = ranked
    for ours, theirs in zip(
        metrics.roc_curve(labels, scores),
        reference.roc_curve(labels, scores, drop_intermediate=False),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    for ours, theirs in zip(
        metrics.precision_recall_curve(labels, scores),
        reference.precision_recall_curve(labels, scores),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


@given(COLUMN)
def test_measures_equal_a_search_over_every_pair_and_threshold(column):
    labels, scores = map(np.asarray, column)
    normal, anomalous = scores[labels == 0], scores[labels == 1]
    gaps = anomalous[:, None] - normal[None, :]
    assert metrics.auroc(labels, scores) == pytest.approx(np.mean((gaps > 0) + 0.5 * (gaps == 0)))
    best = {}
    reached = []
    for threshold in np.unique(scores):
        called = scores >= threshold
        best[threshold] = reference.f1_score(labels, called, zero_division=0)
        if np.mean(anomalous >= threshold) >= 0.7:
            reached.append(np.mean(normal >= threshold))
    assert metrics.f1_max(labels, scores) == pytest.approx(max(best.values()))
    assert best[int(metrics.best_f1_threshold(labels, scores))] == pytest.approx(max(best.values()))
    assert metrics.fpr_at_tpr(labels, scores, 0.7) == pytest.approx(min(reached))


@given(COLUMN)
def test_a_rising_transform_changes_nothing_and_a_label_flip_mirrors(column):
    labels, scores = map(np.asarray, column)
    for measure in (metrics.auroc, metrics.average_precision, metrics.f1_max, metrics.fpr95):
        assert measure(labels, np.exp(scores / 2.0)) == pytest.approx(measure(labels, scores), abs=1e-12)
    assert metrics.auroc(1 - labels, scores) == pytest.approx(1 - metrics.auroc(labels, scores))
    assert metrics.auroc(labels, -scores) == pytest.approx(1 - metrics.auroc(labels, scores))


def test_nineteen_of_twenty_reach_ninety_five_percent():
    labels = np.repeat([1, 0], [20, 10])
    scores = np.concatenate([np.arange(20) + 100.0, np.full(10, 100.5)])
    assert metrics.fpr95(labels, scores) == 0.0
    assert metrics.fpr_at_tpr(labels, scores, 1.0) == 1.0


def test_partial_area_without_standardising_is_a_share_of_the_strip():
    assert metrics.partial_auroc([0, 1], [0.0, 1.0], 0.2, standardised=False) == pytest.approx(1.0)
    assert metrics.partial_auroc([0, 1], [0.0, 0.0], 0.2, standardised=False) == pytest.approx(0.1)


def test_one_class_is_undefined():
    for labels in ([0, 0], [1, 1]):
        assert np.isnan(metrics.auroc(labels, [1.0, 2.0]))
        assert np.isnan(metrics.fpr95(labels, [1.0, 2.0]))
        assert np.isnan(metrics.partial_auroc(labels, [1.0, 2.0]))
    assert np.isnan(metrics.average_precision([0, 0], [1.0, 2.0]))
    assert np.isnan(metrics.f1_max([0, 0], [1.0, 2.0]))
    assert np.isnan(metrics.auroc([], []))


@pytest.mark.parametrize(
    ("labels", "scores", "says"),
    [
        ([0, 1, 1], [0.0, 1.0], "one length"),
        ([[0, 1]], [[0.0, 1.0]], "one-dimensional"),
        ([0, 2], [0.0, 1.0], "position 1"),
        ([0, -1], [0.0, 1.0], "unknown label"),
        ([0, 1], [np.nan, 1.0], "finite"),
        ([0, 1], [0.0, np.inf], "position 1"),
    ],
)
def test_what_cannot_be_ranked_is_refused_by_name(labels, scores, says):
    with pytest.raises(ValueError, match=says):
        metrics.auroc(labels, scores)


@settings(deadline=None, max_examples=5)
@given(st.floats(1.01, 5))
def test_a_share_above_one_is_refused(limit):
    with pytest.raises(ValueError, match="max_fpr"):
        metrics.partial_auroc([0, 1], [0.0, 1.0], limit)
