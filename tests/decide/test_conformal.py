"""Conformal p-values: by rank, by product, and what is said where normals are too few."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offnominal.core.errors import BadItems, BadSource, ModelRefused, NoDecisionError
from offnominal.decide import Conformal, restore_decision

finite = st.floats(-1e6, 1e6, allow_nan=False)
coarse = st.integers(-8, 8).map(float)


def brute_force(calibration, score):
    return (1 + sum(value >= score for value in calibration)) / (len(calibration) + 1)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(finite, coarse), min_size=20, max_size=130),
    st.lists(st.one_of(finite, coarse), min_size=1, max_size=20),
    st.sampled_from([0.05, 0.1, 0.31]),
)
def test_rank_p_values_equal_the_definition(calibration, scores, rate):
    decision = Conformal(rate).fit(calibration)
    scores = [*scores, *calibration[:5]]
    verdicts = decision.judge(scores)
    expected = np.array([brute_force(calibration, score) for score in scores])
    np.testing.assert_array_equal(verdicts.p_value, expected)
    np.testing.assert_array_equal(verdicts.anomalous, expected <= rate)
    assert verdicts.basis == ["rank"] * len(scores)
    np.testing.assert_array_equal(verdicts.anomalous, np.array(scores) > decision.threshold)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(finite, coarse), min_size=20, max_size=130),
    st.lists(finite, min_size=2, max_size=30),
    st.sampled_from([0.001, 0.002, 0.005, 0.01, 0.02, 0.2]),
)
def test_a_higher_score_never_has_a_larger_p_value(calibration, scores, rate):
    verdicts = Conformal(rate).fit(calibration).judge(sorted(scores))
    assert (np.diff(verdicts.p_value) <= 0).all()
    assert (np.diff(verdicts.anomalous) >= 0).all()
    assert (verdicts.p_value >= 0.1 / (len(calibration) + 1)).all()
    decided = verdicts.anomalous >= 0
    assert ((verdicts.p_value <= rate * (1 + 1e-12)) == (verdicts.anomalous == 1))[decided].all()


@settings(max_examples=30, deadline=None)
@given(st.lists(finite, min_size=20, max_size=80), st.randoms(use_true_random=False))
def test_verdicts_depend_on_nothing_but_the_score(calibration, random):
    decision = Conformal(0.05).fit(calibration)
    shuffled = list(calibration)
    random.shuffle(shuffled)
    scores = [min(calibration) - 1, *calibration[:7], max(calibration) + 1]
    together = decision.judge(scores)
    alone = [decision.judge([score]).p_value[0] for score in scores]
    np.testing.assert_array_equal(together.p_value, alone)
    np.testing.assert_array_equal(together.p_value, Conformal(0.05).fit(shuffled).judge(scores).p_value)


@pytest.mark.parametrize("rounded", [False, True])
def test_realised_rate_is_the_asked_one_and_spreads_as_beta_binomial(rounded):
    """On exchangeable scores: mean within two standard errors, variance that of the beta-binomial."""
    from scipy.stats import betabinom

    rng = np.random.default_rng(11)
    n, tested, rate, repeats = 99, 200, 0.05, 1500
    alarms = []
    for _ in range(repeats):
        scores = rng.standard_t(4, n + tested)
        scores = scores.round(1) if rounded else scores
        alarms.append((Conformal(rate).fit(scores[:n]).judge(scores[n:]).anomalous == 1).sum())
    allowed = math.floor(rate * (n + 1))
    law = betabinom(tested, allowed, n + 1 - allowed)
    error = law.std() / math.sqrt(repeats)
    assert np.mean(alarms) <= law.mean() + 2 * error
    if not rounded:
        assert np.mean(alarms) >= law.mean() - 2 * error
        assert np.var(alarms) == pytest.approx(law.var(), rel=0.12)


def test_p_values_are_super_uniform():
    rng = np.random.default_rng(5)
    p = np.concatenate(
        [Conformal(0.1).fit(rng.normal(size=40)).judge(rng.normal(size=1)).p_value for _ in range(4000)]
    )
    for level in np.linspace(0.02, 0.98, 25):
        assert (p <= level).mean() <= level + 2.5 * math.sqrt(level * (1 - level) / len(p))


def test_under_twenty_normals_there_is_a_score_and_no_verdict():
    for n in (0, 1, 19):
        decision = Conformal(0.1).fit(np.arange(n))
        verdicts = decision.judge([0.0, 1e9])
        assert np.isnan(verdicts.p_value).all()
        assert verdicts.anomalous.tolist() == [-1, -1]
        assert verdicts.basis == [None, None]
        assert f"{n} normal scores: p-values need 20" in verdicts.note
        assert decision.threshold is None


def test_twenty_to_fifty_normals_give_p_values_without_a_verdict_where_ranks_do_not_reach():
    verdicts = Conformal(0.01).fit(np.arange(49.0)).judge([100.0, 48.0])
    np.testing.assert_array_equal(verdicts.p_value, [1 / 50, 2 / 50])
    assert verdicts.anomalous.tolist() == [-1, -1]
    assert verdicts.basis == ["rank", "rank"]
    assert "49 normal scores are too few" in verdicts.note
    assert "needs 50 normals (by rank 99)" in verdicts.note


def test_beyond_one_decade_there_is_no_verdict_and_the_note_says_what_it_takes():
    scores = np.random.default_rng(0).normal(size=98)
    verdicts = Conformal(0.001).fit(scores).judge([100.0])
    assert verdicts.anomalous.tolist() == [-1]
    assert verdicts.p_value[0] == 1 / 99
    assert "needs 99 normals (by rank 999)" in verdicts.note
    # what the note asks for is enough, and one less by rank is not
    scores = np.random.default_rng(0).normal(size=999)
    assert Conformal(0.001).fit(scores[:99]).judge([1e6]).anomalous.tolist() == [1]
    assert Conformal(0.001).fit(scores).judge([1e6]).basis == ["rank"]
    assert Conformal(0.001).fit(scores[:998]).judge([1e6]).basis == ["tail"]


def test_labels_choose_the_normals():
    scores = np.arange(60.0)
    labels = np.repeat([0, 1, -1], 20)
    assert Conformal(0.05).fit(scores, labels).threshold == 19
    labels[:20] = -1
    assert Conformal(0.05).fit(scores, labels).report()["n"] == 40
    with pytest.raises(BadSource, match=r"all 3 items are labelled anomalous"):
        Conformal().fit([1.0, 2.0, 3.0], [1, 1, 1])


def products_case():
    rng = np.random.default_rng(3)
    scores = np.concatenate([rng.normal(0, 1, 200), rng.normal(10, 1, 150), rng.normal(30, 1, 12)])
    return scores, ["bolt"] * 200 + ["nut"] * 150 + ["clip"] * 12


def test_a_product_is_judged_on_its_own_normals_where_they_are_enough():
    scores, products = products_case()
    decision = Conformal(0.01).fit(scores, products=products)
    verdicts = decision.judge([6.0, 6.0, 6.0, 6.0, 40.0], ["bolt", "nut", None, "new", "clip"])
    own = Conformal(0.01).fit(scores[:200]).judge([6.0])
    assert verdicts.p_value[0] == own.p_value[0]
    assert verdicts.anomalous.tolist() == [1, 0, 0, 0, 1]
    pooled = Conformal(0.01).fit(scores).judge([6.0, 40.0])
    np.testing.assert_array_equal(verdicts.p_value[2:], pooled.p_value[[0, 0, 1]])
    assert "new: no normals of this product" in verdicts.note


def test_a_product_whose_normals_do_not_reach_the_rate_is_judged_with_all():
    rng = np.random.default_rng(8)
    decision = Conformal(0.01).fit(rng.normal(size=230), products=["a"] * 200 + ["b"] * 30)
    assert decision.judge([50.0], ["b"]).anomalous.tolist() == [1]
    assert decision.report()["products"]["b"]["judged_by"] == "pooled"
    # … unless all together do not reach it either: then its own p-value stands.
    alone = Conformal(0.0001).fit(rng.normal(size=230), products=["a"] * 200 + ["b"] * 30)
    verdicts = alone.judge([50.0], ["b"])
    assert verdicts.anomalous.tolist() == [-1]
    assert verdicts.p_value[0] == 1 / 31


def test_report_shows_each_product_and_is_json():
    scores, products = products_case()
    report = Conformal(0.01).fit(scores, products=products).report()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["n"] == 362
    assert report["expected_false_alarm_rate"] == 3 / 363
    assert report["realised_false_alarm_rate"] == 2 / 362
    assert {name: entry["judged_by"] for name, entry in report["products"].items()} == {
        "bolt": "own",
        "nut": "own",
        "clip": "pooled",
    }
    clip = report["products"]["clip"]
    assert clip["realised_false_alarm_rate"] == clip["realised_pooled"] == 2 / 12
    assert report["products"]["bolt"]["realised_pooled"] == 0


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.05, 1e-6])
def test_state_round_trip_is_exact(rate):
    scores, products = products_case()
    products = [None if i % 9 == 0 else name for i, name in enumerate(products)]
    first = Conformal(rate).fit(scores, products=products)
    params, state = first.get_params(), first.state()
    arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
    assert all(value.ndim == 1 and value.dtype == np.float64 for value in arrays.values())
    rest = json.loads(json.dumps({key: value for key, value in state.items() if key not in arrays}))
    second = restore_decision("conformal", json.loads(json.dumps(params)), {**rest, **arrays})
    probes = np.concatenate([scores, np.linspace(-5, 80, 300)])
    kinds = [["bolt", "nut", "clip", None, "new"][i % 5] for i in range(len(probes))]
    one, two = first.judge(probes, kinds), second.judge(probes, kinds)
    np.testing.assert_array_equal(one.p_value, two.p_value)
    np.testing.assert_array_equal(one.anomalous, two.anomalous)
    assert (one.basis, one.note, first.report()) == (two.basis, two.note, second.report())


def test_an_unfitted_decision_says_so_and_survives_storage():
    decision = Conformal.restore({"false_alarm_rate": 0.02}, Conformal(0.02).state())
    assert decision.threshold is None
    for call in (lambda: decision.judge([1.0]), decision.report):
        with pytest.raises(NoDecisionError, match="calibrate"):
            call()
    empty = Conformal().fit([])
    assert Conformal.restore(empty.get_params(), empty.state()).judge([1.0]).anomalous.tolist() == [-1]


@pytest.mark.parametrize(
    "damage",
    [
        {"scores": np.array([1.0, np.nan])},
        {"scores": np.array([1.0])},
        {"counts": [3, -1]},
        {"counts": [2]},
        {"counts": ["a", "b"]},
        {"counts": None},
        {"products": ["a", "a"]},
        {"products": ["a", 7]},
    ],
)
def test_damaged_state_is_refused(damage):
    state = {"scores": np.array([1.0, 2.0]), "products": ["a", "b"], "counts": [1, 1]}
    Conformal.restore({}, state)
    with pytest.raises(ModelRefused, match="damaged"):
        Conformal.restore({}, state | damage)
    with pytest.raises(ModelRefused, match="damaged"):
        Conformal.restore({"false_alarm_rate": 2}, state)


@pytest.mark.parametrize("rate", [0, 1, -0.1, math.nan, math.inf, "0.1", None, True])
def test_rates_outside_zero_and_one_are_refused(rate):
    with pytest.raises(ValueError, match="false_alarm_rate must be a number between 0 and 1"):
        Conformal(rate)


def test_input_that_cannot_be_used_is_named_by_position():
    decision = Conformal()
    with pytest.raises(BadItems, match="score at position 1: is nan"):
        decision.fit([0.0, math.nan, 1.0])
    with pytest.raises(BadItems, match="score at position 2: is inf"):
        Conformal().fit(np.arange(30)).judge([0.0, 1.0, math.inf])
    with pytest.raises(BadSource, match=r"one number an item, shape \(n,\), got shape \(2, 2\)"):
        decision.fit([[1, 2], [3, 4]])
    with pytest.raises(BadSource, match="scores must be numbers"):
        decision.fit(["high", "low"])
    with pytest.raises(BadItems, match=r"label at position 1: is .*2"):
        decision.fit([0.0, 1.0], [0, 2])
    with pytest.raises(BadSource, match="2 scores, labels of shape"):
        decision.fit([0.0, 1.0], [0])
    with pytest.raises(BadSource, match="2 scores, 1 products"):
        decision.fit([0.0, 1.0], products=["a"])
    with pytest.raises(BadSource, match="got the single text 'ab'"):
        decision.fit([0.0, 1.0], products="ab")
    with pytest.raises(BadItems, match="product at position 0: is 5"):
        decision.fit([0.0, 1.0], products=[5, None])


def test_extreme_scores_get_a_verdict_without_a_warning():
    top = np.finfo(np.float64).max
    for rate in (0.004, 0.05):
        decision = Conformal(rate).fit(top * np.linspace(-1, 1, 60))
        assert decision.judge([top, -top, 0.0]).p_value.min() >= 0.1 / 61
    same = Conformal(0.01).fit(np.full(60, 2.0)).judge([2.0, 3.0])
    assert same.anomalous.tolist() == [-1, -1]
    assert "hardly differ" in same.note
    np.testing.assert_array_equal(same.p_value, [1.0, 1 / 61])
