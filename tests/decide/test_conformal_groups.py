"""Normals that come in groups: each group counts as one, and the rate holds for items of new groups."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offnominal.core.errors import BadSource, ModelRefused
from offnominal.core.seeds import generator
from offnominal.decide import Conformal, restore_decision

coarse = st.integers(-8, 8).map(float)


def by_hand(calibration, groups, score):
    names = set(groups)
    weight = sum(
        np.mean([value >= score for value, group in zip(calibration, groups, strict=True) if group == name])
        for name in names
    )
    return (1 + weight) / (len(names) + 1)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(coarse, st.sampled_from("abcdefghijkl")), min_size=30, max_size=90),
    st.lists(coarse, min_size=1, max_size=12),
    st.sampled_from([0.1, 0.2, 0.31]),
)
def test_p_values_equal_the_definition(pairs, scores, rate):
    calibration, groups = map(list, zip(*pairs, strict=True))
    decision = Conformal(rate, by_group=True).fit(calibration, groups=groups)
    scores = [*scores, *calibration[:5]]
    verdicts = decision.judge(scores)
    expected = np.array([by_hand(calibration, groups, score) for score in scores])
    np.testing.assert_allclose(verdicts.p_value, expected, atol=1e-9)
    if decision.threshold is not None:
        np.testing.assert_array_equal(verdicts.anomalous, expected <= rate + 1e-9)
    else:
        assert (verdicts.anomalous == -1).all()
    again = restore_decision("conformal", decision.get_params(), decision.state()).judge(scores)
    np.testing.assert_array_equal(again.p_value, verdicts.p_value)
    np.testing.assert_array_equal(again.anomalous, verdicts.anomalous)


def test_the_rate_holds_for_new_groups_where_counting_items_does_not():
    """Scores share most of their variance within a group, and groups differ in size."""
    random = generator(3, "groups")
    alarms = {True: [], False: []}
    for _ in range(600):
        sizes = random.integers(1, 12, 25)
        centres = random.normal(size=len(sizes))
        scores = np.concatenate(
            [c + 0.2 * random.normal(size=n) for c, n in zip(centres, sizes, strict=True)]
        )
        groups = np.repeat(np.arange(len(sizes)), sizes).tolist()
        new = random.normal() + 0.2 * random.normal(size=8)
        for counted in alarms:
            verdicts = Conformal(0.05, by_group=counted).fit(scores, groups=groups).judge(new)
            alarms[counted].append(verdicts.anomalous.mean())
    mean = {counted: np.mean(found) for counted, found in alarms.items()}
    error = np.std(alarms[True]) / np.sqrt(len(alarms[True]))
    assert mean[True] <= 0.05 + 2 * error
    assert mean[False] > mean[True] + 0.005


def test_too_few_groups_are_said_and_items_counted_unless_told_otherwise():
    scores = np.linspace(0, 1, 60)
    groups = [f"part {n % 6}" for n in range(60)]
    plain = Conformal(0.05).fit(scores)
    default = Conformal(0.05).fit(scores, groups=groups)
    verdicts = default.judge([2.0, 0.5])
    assert verdicts.anomalous.tolist() == [1, 0]
    np.testing.assert_array_equal(verdicts.p_value, plain.judge([2.0, 0.5]).p_value)
    assert "6 groups" in verdicts.note
    assert "takes 20 groups" in verdicts.note
    strict = Conformal(0.05, by_group=True).fit(scores, groups=groups)
    verdicts = strict.judge([2.0, 0.5])
    assert verdicts.anomalous.tolist() == [-1, -1]
    assert verdicts.p_value[0] == pytest.approx(1 / 7)
    assert "needs 20 groups" in verdicts.note
    assert strict.report()["groups"] == 6


def test_a_group_for_each_item_is_no_group():
    scores = np.linspace(0, 1, 40)
    single = Conformal(0.05).fit(scores, groups=list(range(40)))
    unknown = Conformal(0.05).fit(scores, groups=[None] * 40)
    for decision in (single, unknown):
        assert "groups" not in decision.state()
        assert decision.threshold == Conformal(0.05).fit(scores).threshold


def test_groups_are_by_product_too():
    scores = np.concatenate([np.linspace(0, 1, 60), np.linspace(5, 6, 60)])
    products = ["small"] * 60 + ["large"] * 60
    groups = [n // 2 for n in range(120)]
    decision = Conformal(0.05).fit(scores, products=products, groups=groups)
    assert decision.report()["products"]["small"]["groups"] == 30
    assert decision.judge([1.5], ["small"]).p_value[0] == pytest.approx(1 / 31)


def test_bad_groups_are_refused():
    with pytest.raises(BadSource, match="3 groups"):
        Conformal(0.1).fit(np.linspace(0, 1, 40), groups=["a", "b", "c"])
    with pytest.raises(ValueError, match="by_group"):
        Conformal(0.1, by_group="yes")
    state = Conformal(0.1).fit(np.linspace(0, 1, 40), groups=["a", "b"] * 20).state()
    with pytest.raises(ModelRefused):
        restore_decision("conformal", {"false_alarm_rate": 0.1}, {**state, "groups": state["groups"][:3]})
