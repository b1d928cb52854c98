"""Drift is called where there is none no more often than asked, and soon where there is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from offnominal.core.errors import BadItems, BadSource, ModelRefused
from offnominal.decide.drift import Bettor, ScoreDrift, block_length, drift_test


def _plain_p_values(reference: np.ndarray, stream: np.ndarray, ties: np.ndarray) -> list[float]:
    """Randomised conformal p-values, each score joining the reference, by counting."""
    seen, found = list(reference), []
    for score, tie in zip(stream, ties, strict=True):
        seen.append(score)
        above = sum(other > score for other in seen)
        equal = sum(other == score for other in seen)
        found.append((above + tie * equal) / len(seen))
    return found


@pytest.mark.parametrize("digits", [0, 8])
def test_p_values_are_ranks_among_all_scores_so_far(digits: int) -> None:
    random = np.random.default_rng(1)
    scores = np.round(random.exponential(size=160), digits)
    found = ScoreDrift(seed=5).fit(scores[:40]).watch(scores[40:])
    ties = np.random.Generator(np.random.PCG64(5)).random(120)
    np.testing.assert_allclose(found.p_value, _plain_p_values(scores[:40], scores[40:], ties))


def test_p_values_of_a_stream_without_drift_are_uniform_and_independent() -> None:
    scores = np.round(np.random.default_rng(0).normal(size=4_020), 1)
    p_value = ScoreDrift(seed=2).fit(scores[:20]).watch(scores[20:]).p_value
    assert stats.kstest(p_value, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(p_value[1:], p_value[:-1])[0, 1]) < 3 / math.sqrt(len(p_value))


def test_every_bet_is_fair() -> None:
    """Whatever came before, the wealth expected after one more uniform p-value is the wealth now."""
    random = np.random.default_rng(3)
    for history in (0, 1, 40):
        bettor = Bettor()
        for p_value in random.beta(0.4, 1.0, size=history):
            bettor.bet(float(p_value))
        before, state = bettor.log_wealth, bettor.state()
        # an integral over [0, 1] with points dense at both ends, where densities have poles
        angles = (np.arange(2_000) + 0.5) / 2_000 * np.pi
        points, weights = (1 - np.cos(angles)) / 2, np.sin(angles) / 2 * np.pi / 2_000
        after = []
        for point in points:
            bettor.take(state)
            after.append(math.exp(bettor.bet(float(point)) - before))
        assert float(weights @ after) == pytest.approx(1, abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "reference"), [(0.01, 100), (0.05, 100), (0.05, 1_000)])
def test_false_alarms_over_a_thousand_streams_are_as_few_as_asked(rate: float, reference: int) -> None:
    called = 0
    for number in range(1_000):
        scores = np.random.default_rng(number).normal(size=reference + 500)
        test = ScoreDrift(rate, seed=number).fit(scores[:reference])
        called += bool(test.watch(scores[reference:]).drifted[-1])
    assert called / 1_000 <= rate


def test_false_alarms_over_streams_are_few() -> None:
    called = 0
    for number in range(100):
        scores = np.random.default_rng(number).normal(size=250)
        called += bool(ScoreDrift(0.05, seed=number).fit(scores[:50]).watch(scores[50:]).drifted[-1])
    assert called <= stats.binom.ppf(0.99, 100, 0.05)


@pytest.mark.parametrize("change", ["up", "down", "wider", "narrower"])
def test_drift_is_found(change: str) -> None:
    random = np.random.default_rng(4)
    scores = random.normal(size=1_000)
    late = scores[600:]
    scores[600:] = {"up": late + 1, "down": late - 1, "wider": 3 * late, "narrower": late / 4}[change]
    found = ScoreDrift(0.001).fit(scores[:300]).watch(scores[300:])
    assert not found.drifted[299]
    assert found.drifted[-1]
    assert (np.diff(found.drifted.astype(int)) >= 0).all()


def test_watching_in_parts_and_after_a_pause_says_the_same() -> None:
    scores = np.random.default_rng(6).normal(size=400)
    whole = ScoreDrift(0.05, block=3, seed=9).fit(scores[:150]).watch(scores[150:])
    test = ScoreDrift(0.05, block=3, seed=9).fit(scores[:150])
    first = test.watch(scores[150:251])
    again = ScoreDrift.restore(test.get_params(), test.state())
    second = again.watch(scores[251:])
    for key in ("p_value", "log_wealth", "drifted"):
        joined = np.concatenate([getattr(first, key), getattr(second, key)])
        np.testing.assert_array_equal(joined, getattr(whole, key))


def test_blocks_hold_the_rate_where_neighbours_are_alike() -> None:
    called = {"blocks": 0, "single": 0}
    for number in range(40):
        noise = np.random.default_rng(number).normal(size=6_000)
        scores = np.empty_like(noise)
        level = 0.0
        for at, value in enumerate(noise):
            level = scores[at] = 0.7 * level + value
        for way, block in (("single", 1), ("blocks", block_length(scores[:3_000]))):
            test = ScoreDrift(0.05, block=block, seed=number).fit(scores[:3_000])
            called[way] += bool(test.watch(scores[3_000:]).drifted[-1])
    assert called["single"] > 10  # the reason for blocks
    assert called["blocks"] <= stats.binom.ppf(0.99, 40, 0.05)


def test_block_length_follows_the_memory_of_the_stream() -> None:
    from scipy.signal import lfilter

    noise = np.random.default_rng(0).normal(size=20_000)
    lengths = [block_length(lfilter([1.0], [1.0, -rho], noise)) for rho in (0.0, 0.5, 0.9)]
    assert lengths[0] == 1
    # correlation times of an autoregression are (1 + ρ) / (1 − ρ): 3 and 19
    assert lengths[1] == pytest.approx(30, rel=0.3)
    assert lengths[2] == pytest.approx(190, rel=0.3)


def test_what_cannot_be_watched_is_refused() -> None:
    with pytest.raises(BadSource, match="call fit first"):
        ScoreDrift().watch([1.0])
    with pytest.raises(BadSource, match="needs 20"):
        ScoreDrift(block=4).fit(np.arange(50.0))
    with pytest.raises(BadItems, match="position 1"):
        ScoreDrift().fit(np.arange(30.0)).watch([1.0, np.nan])
    with pytest.raises(ValueError, match="between 0 and 1"):
        ScoreDrift(1.0)


@pytest.mark.parametrize(
    "change",
    [
        {"seen": np.array([2.0, 1.0])},
        {"open": np.zeros(3)},
        {"judged": -1},
        {"drifted": 1},
        {"logs": np.zeros(2)},
        {"shares": np.zeros(36)},
    ],
)
def test_a_damaged_test_is_refused(change: dict[str, Any]) -> None:
    test = ScoreDrift(block=3).fit(np.arange(90.0))
    with pytest.raises(ModelRefused, match="damaged"):
        ScoreDrift.restore(test.get_params(), test.state() | change)


def test_numbers_are_tested_as_scipy_does() -> None:
    random = np.random.default_rng(7)
    a, b = random.normal(size=(60, 3)), random.normal(size=(80, 3)) + np.array([0, 0.4, 2])
    found = drift_test(a, b)
    for column in range(3):
        expected = stats.ks_2samp(a[:, column], b[:, column])
        assert found.distance[column] == pytest.approx(expected.statistic)
        assert found.p_value[column] == pytest.approx(expected.pvalue)
    assert found.drifted.tolist() == [False, False, True] or found.drifted.tolist() == [False, True, True]
    assert found.names == ["0", "1", "2"]


def test_words_and_missing_values_are_compared_by_their_shares() -> None:
    random = np.random.default_rng(8)
    old = {"kind": random.choice(["a", "b", "c"], 300), "size": random.normal(size=300)}
    new = {"kind": random.choice(["a", "b", "d"], 300), "size": random.normal(size=300)}
    new["size"][:60] = np.nan
    found = drift_test(old, new)
    assert found.drifted.tolist() == [True, True]
    assert found.distance[0] == pytest.approx(0.333, abs=0.06)
    assert found.distance[1] == pytest.approx(0.2, abs=0.07)
    assert drift_test(old, old).p_value.min() == 1


def test_chi_square_of_words_agrees_with_scipy() -> None:
    random = np.random.default_rng(9)
    for number in range(5):
        a = random.choice(list("abcd"), 200, p=[0.4, 0.3, 0.2, 0.1])
        b = random.choice(list("abcd"), 150, p=[0.35, 0.3, 0.2, 0.15])
        table = np.array([[np.count_nonzero(part == word) for word in "abcd"] for part in (a, b)])
        expected = stats.chi2_contingency(table).pvalue
        found = drift_test({"word": a.astype(object)}, {"word": b.astype(object)}, seed=number).p_value[0]
        assert found == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 999) + 0.01)


@pytest.mark.parametrize("words", [False, True])
def test_groups_count_as_one(words: bool) -> None:
    """Rows of a group are alike: by rows there is drift nearly always, by groups as often as asked."""
    called = {"rows": 0, "groups": 0}
    for number in range(60):
        random = np.random.default_rng(number)
        lots = np.repeat(np.arange(40), 10)
        values = random.normal(size=40)[lots] + 0.3 * random.normal(size=400)
        column = np.where(values > 0, "high", "low").astype(object) if words else values
        old, new = column[:200], column[200:]
        called["rows"] += bool(drift_test({"x": old}, {"x": new}).drifted[0])
        told = (lots[:200].tolist(), lots[200:].tolist())
        called["groups"] += bool(drift_test({"x": old}, {"x": new}, groups=told).drifted[0])
    assert called["rows"] > 20
    assert called["groups"] <= stats.binom.ppf(0.99, 60, 0.05)


def test_groups_still_find_what_drifted() -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=(2, 300))
    values[1] += 1.5
    assert drift_test(values[0], values[1], block=10).drifted[0]


def test_samples_that_do_not_fit_together_are_refused() -> None:
    ten = np.arange(10.0)
    with pytest.raises(BadSource, match="columns differ"):
        drift_test({"a": ten}, {"b": ten})
    with pytest.raises(BadSource, match="words in the other"):
        drift_test({"a": ten}, {"a": ten.astype(str)})
    with pytest.raises(BadSource, match="at least 5"):
        drift_test(ten, ten[:3])
    with pytest.raises(BadItems, match="position 2"):
        drift_test(ten, np.array([0, 1, np.inf, 2, 3]))
    with pytest.raises(BadSource, match="both samples"):
        drift_test(ten, ten, groups=(list("aabbccddee"), list("aabbccddee")))
    with pytest.raises(BadSource, match="one length"):
        drift_test({"a": ten, "b": ten[:4]}, {"a": ten, "b": ten})
