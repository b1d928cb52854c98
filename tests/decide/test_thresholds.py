"""One-threshold decisions: where the threshold lies, what is refused, that it survives storage."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from offnominal.core.errors import BadItems, BadSource, ModelRefused, NoDecisionError
from offnominal.decide import (
    BestF1,
    ChiSquare,
    Contamination,
    Fixed,
    Quantile,
    decision,
    decision_names,
    restore_decision,
)

scores_strategy = st.lists(st.one_of(st.floats(-1e9, 1e9), st.integers(-4, 4).map(float)), min_size=1)


@settings(max_examples=80, deadline=None)
@given(scores_strategy, st.floats(0.01, 1))
def test_quantile_is_the_lowest_score_with_few_enough_above(scores, q):
    threshold = Quantile(q).fit(scores).threshold
    allowed = (1 - q) * len(scores) + 1e-9
    lawful = [score for score in scores if sum(other > score for other in scores) <= allowed]
    assert threshold == min(lawful)


@settings(max_examples=80, deadline=None)
@given(scores_strategy, st.floats(0.01, 0.99))
def test_contamination_never_flags_more_than_its_fraction(scores, fraction):
    fitted = Contamination(fraction).fit(scores)
    flagged = fitted.judge(scores).anomalous.sum()
    assert flagged <= fraction * len(scores) + 1e-9
    if len(set(scores)) == len(scores):
        assert flagged == math.floor(fraction * len(scores) + 1e-9)


def test_contamination_ignores_labels_in_the_threshold_and_counts_labelled_normals():
    scores = np.arange(10.0)
    assert Contamination(0.2).fit(scores).threshold == 7
    fitted = Contamination(0.2).fit(scores, [0] * 9 + [1])
    assert fitted.threshold == 7
    assert fitted.report()["realised_false_alarm_rate"] == 1 / 9
    assert Contamination(0.2).fit(scores).report()["realised_false_alarm_rate"] is None


def f1(labels, flagged):
    hits = sum(a == 1 and b for a, b in zip(labels, flagged, strict=True))
    return 2 * hits / (sum(a == 1 for a in labels) + sum(flagged)) if any(flagged) else 0.0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.sampled_from([0, 1])), min_size=2, max_size=25))
def test_best_f1_is_the_best_of_all_thresholds(pairs):
    scores, labels = [float(a) for a, _ in pairs] + [0.0, 1.0], [b for _, b in pairs] + [0, 1]
    fitted = BestF1().fit(scores, labels)
    best = max(f1(labels, [s > t for s in scores]) for t in [min(scores) - 1, *scores])
    assert f1(labels, fitted.judge(scores).anomalous.astype(bool).tolist()) == best


def test_best_f1_lies_halfway_and_leaves_unknown_items_out():
    scores, labels = [0.0, 1.0, 3.0, 5.0, 2.0], [0, 0, 1, 1, -1]
    assert BestF1().fit(scores, labels).threshold == 2.0
    assert BestF1().fit([1.0, 2.0], [1, 0]).judge([1.0, 2.0]).anomalous.tolist() == [1, 1]
    close = np.nextafter(1.0, 2.0)
    assert BestF1().fit([1.0, close], [0, 1]).judge([1.0, close]).anomalous.tolist() == [0, 1]


def test_best_f1_needs_labels_of_both_kinds():
    with pytest.raises(BadSource, match="best_f1 needs labels: 0 for normal"):
        BestF1().fit([1.0, 2.0])
    with pytest.raises(BadSource, match=r"both kinds, got 2 normal \(0\) and 0 anomalous \(1\)"):
        BestF1().fit([1.0, 2.0, 3.0], [0, 0, -1])


def test_chi_square_gives_the_law_of_squared_distances():
    made = ChiSquare(0.01, 5)
    distances = np.array([0.0, 1.0, 3.0, 4.5, 1e200])
    verdicts = made.judge(distances)
    np.testing.assert_allclose(verdicts.p_value[:-1], stats.chi2.sf(distances[:-1] ** 2, 5), rtol=1e-12)
    assert verdicts.p_value[-1] == 0
    assert made.threshold == pytest.approx(math.sqrt(stats.chi2.isf(0.01, 5)))
    assert verdicts.anomalous.tolist() == [0, 0, 0, 1, 1]
    assert verdicts.basis == ["declared"] * 5
    with pytest.raises(BadItems, match="score at position 1: is negative"):
        made.judge([0.0, -1.0])


def test_chi_square_report_tells_whether_the_law_held():
    rows = np.random.default_rng(1).normal(size=(4000, 5))
    distances = np.linalg.norm(rows, axis=1)
    report = ChiSquare(0.05, 5).fit(distances, products=["a", "b"] * 2000).report()
    assert report["asked_false_alarm_rate"] == 0.05
    assert report["realised_false_alarm_rate"] == pytest.approx(0.05, abs=0.01)
    assert report["products"]["a"]["n"] == 2000
    assert "k = 5" in report["note"]


def test_fixed_needs_no_fit_and_is_strict():
    made = Fixed(2.5)
    verdicts = made.judge([2.5, 2.6, -1.0])
    assert verdicts.anomalous.tolist() == [0, 1, 0]
    assert np.isnan(verdicts.p_value).all()
    assert made.fit([1.0, 3.0], [1, 1]).report()["n"] == 0
    assert made.fit([1.0, 3.0]).report()["realised_false_alarm_rate"] == 0.5


FITTED = {
    "estimated_contamination": {"fraction": 0.1, "interval": [0.05, 0.2], "level": 0.9, "seed": 0},
    "fixed": {"threshold": 0.1},
    "quantile": {"q": 0.9},
    "contamination": {"fraction": 0.1},
    "best_f1": {},
    "chi_square": {"false_alarm_rate": 0.01, "degrees_of_freedom": 3},
    "conformal": {"false_alarm_rate": 0.1, "by_group": None},
}


@pytest.mark.parametrize("name", decision_names())
def test_every_decision_survives_storage_exactly(name):
    rng = np.random.default_rng(0)
    scores, labels = np.abs(rng.normal(size=60)), rng.integers(0, 2, 60)
    first = decision(name, **FITTED[name]).fit(scores, labels, ["a", "b", None] * 20)
    assert first.get_params() == FITTED[name]
    state = first.state()
    arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
    rest = json.loads(json.dumps({k: v for k, v in state.items() if k not in arrays}, allow_nan=False))
    second = restore_decision(name, first.get_params(), {**rest, **arrays})
    assert second.threshold == first.threshold
    assert second.report() == first.report()
    assert json.loads(json.dumps(first.report(), allow_nan=False)) == first.report()
    one, two = first.judge(scores), second.judge(scores)
    np.testing.assert_array_equal(one.p_value, two.p_value)
    np.testing.assert_array_equal(one.anomalous, two.anomalous)
    np.testing.assert_array_equal(one.anomalous == 1, scores > first.threshold)
    assert len(one) == 60
    keys = {"decision", "parameters", "n", "basis", "threshold", "note", "products"}
    assert keys <= set(first.report())
    assert repr(second) == repr(first)


@pytest.mark.parametrize("name", decision_names())
def test_fitting_leaves_the_input_alone(name):
    scores = np.abs(np.random.default_rng(2).normal(size=50))
    before = scores.copy()
    decision(name, **FITTED[name]).fit(scores, [0, 1] * 25).judge(scores)
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize("name", ["quantile", "contamination", "best_f1"])
def test_an_unfitted_threshold_says_so(name):
    made = decision(name, **FITTED[name])
    assert made.threshold is None
    assert made.state() == {}
    with pytest.raises(NoDecisionError, match=f"the {name} decision is not fitted; calibrate"):
        made.judge([1.0])


def test_nothing_to_fit_on_is_refused():
    with pytest.raises(BadSource, match="at least one normal score"):
        Quantile(0.9).fit([])
    with pytest.raises(BadSource, match="at least one score"):
        Contamination(0.1).fit([])


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("fixed", {"threshold": math.nan}, "threshold must be a finite number, got nan"),
        ("quantile", {"q": 0}, "q must be a number above 0, at most 1, got 0"),
        ("contamination", {"fraction": 1}, "fraction must be a number between 0 and 1"),
        ("chi_square", {"false_alarm_rate": 0, "degrees_of_freedom": 3}, "false_alarm_rate must be"),
        ("chi_square", {"false_alarm_rate": 0.1, "degrees_of_freedom": 0}, "degrees_of_freedom must be"),
        ("bayes", {}, "there is no decision 'bayes'; there are best_f1, chi_square, conformal"),
    ],
)
def test_wrong_values_are_refused(name, params, message):
    with pytest.raises(ValueError, match=message):
        decision(name, **params)


def test_wrong_arguments_are_refused_with_the_right_ones():
    with pytest.raises(TypeError, match=r"decision 'fixed': .*'level'; it takes threshold"):
        decision("fixed", threshold=1, level=3)
    with pytest.raises(TypeError, match=r"missing a required argument: 'false_alarm_rate'"):
        decision("chi_square", degrees_of_freedom=2)
    with pytest.raises(TypeError, match="it takes no argument"):
        decision("best_f1", beta=2)


def test_damaged_state_is_refused_by_name():
    good = Quantile(0.9).fit([1.0, 2.0]).state()
    for state in ({"threshold": 1.0}, good | {"threshold": math.inf}, good | {"tally": 3}):
        with pytest.raises(ModelRefused, match="the stored quantile decision is damaged"):
            restore_decision("quantile", {"q": 0.9}, state)
    with pytest.raises(ModelRefused, match="no decision 'oracle' in this version; call calibrate"):
        restore_decision("oracle", {}, {})
