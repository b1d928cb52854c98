"""The fitted tail: continuous with the ranks, bounded to one decade, and careful on average."""

import math

import numpy as np
import pytest
from scipy import stats

from offnominal.decide import Conformal
from offnominal.decide.tail import fit_tail

FAMILIES = {
    "normal": (lambda rng, n: rng.normal(size=n), stats.norm.sf),
    "exponential": (lambda rng, n: rng.exponential(size=n), stats.expon.sf),
    "lognormal": (lambda rng, n: rng.lognormal(size=n), stats.lognorm(1).sf),
    "uniform": (lambda rng, n: rng.random(n), stats.uniform.sf),
    "bimodal": (
        lambda rng, n: rng.normal(size=n) + 5 * (rng.random(n) < 0.3),
        lambda x: 0.7 * stats.norm.sf(x) + 0.3 * stats.norm.sf(x, 5),
    ),
}


def excess_of_realised_over_asked(family, n, share, repeats):
    """Mean of realised / asked over calibration sets and its standard error, by the law drawn from."""
    draw, survival = FAMILIES[family]
    rng = np.random.default_rng(29)
    rate = share / (n + 1)
    thresholds = [Conformal(rate).fit(draw(rng, n)).threshold for _ in range(repeats)]
    realised = survival(np.array(thresholds)) / rate
    return realised.mean(), realised.std() / math.sqrt(repeats)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("n", "share"), [(50, 0.1), (99, 0.1), (99, 0.5), (400, 0.1)])
def test_realised_rate_is_on_average_at_most_the_asked_one(family, n, share):
    mean, error = excess_of_realised_over_asked(family, n, share, 150)
    assert mean <= 1 + 2 * error


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n", [50, 99, 300, 999])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.9])
def test_realised_rate_is_on_average_at_most_the_asked_one_over_many_sets(family, n, share):
    mean, error = excess_of_realised_over_asked(family, n, share, 4000)
    assert mean <= 1 + 2 * error


@pytest.mark.parametrize("family", FAMILIES)
def test_p_values_in_the_tail_are_super_uniform(family):
    """P(p ≤ level) ≤ level for every level from a tenth of the highest rank's p-value up to it."""
    draw, survival = FAMILIES[family]
    rng = np.random.default_rng(31)
    n, repeats = 60, 150
    levels = np.linspace(0.1, 1, 10) / (n + 1) * (1 + 1e-9)
    chance = np.zeros((repeats, len(levels)))
    for row in chance:
        calibration = draw(rng, n)
        decision = Conformal(0.1 / (n + 1)).fit(calibration)
        grid = np.linspace(calibration.max(), np.nextafter(decision.threshold, np.inf), 500)
        p_value = decision.judge(grid).p_value
        # The last grid score whose p-value is still above the level: it can only overstate the chance.
        row[:] = [survival(grid[np.flatnonzero(p_value > level)[-1]]) for level in levels]
    error = chance.std(axis=0) / math.sqrt(repeats)
    assert (chance.mean(axis=0) <= levels + 2 * error).all()


def test_the_exponential_law_is_exact_for_a_tail_without_bend():
    """With bend 0 the predictive product holds with equality: checked against simulation."""
    from offnominal.decide.tail import Tail

    rng = np.random.default_rng(37)
    n, k, repeats = 60, 10, 20000
    scores = np.sort(rng.exponential(size=(repeats, n)), axis=1)
    c = 0.2
    total = (scores[:, -k:] - scores[:, [-k - 1]]).sum(axis=1)
    chance = np.exp(-(scores[:, -1] + c * total))
    tail = Tail(start=0.0, highest=0.0, bend=0.0, total=1.0, used=k)
    expected = tail.beyond(np.array([c]))[0] / (n + 1)
    assert chance.mean() == pytest.approx(expected, abs=3 * chance.std() / math.sqrt(repeats))


def test_tail_joins_the_ranks_without_a_gap():
    calibration = np.random.default_rng(2).normal(size=80)
    highest = calibration.max()
    decision = Conformal(0.005).fit(calibration)
    just_above = np.nextafter(highest, np.inf)
    verdicts = decision.judge([highest, just_above, highest + 1e-9, highest + 0.1, highest + 1e9])
    assert verdicts.basis == ["rank", "tail", "tail", "tail", "tail"]
    assert verdicts.p_value[0] == 2 / 81
    np.testing.assert_allclose(verdicts.p_value[1:3], 1 / 81, rtol=1e-7)
    assert (np.diff(verdicts.p_value) < 0)[2:].all()
    assert verdicts.p_value[-1] == pytest.approx(0.1 / 81, rel=1e-12)
    assert "tail fitted to 80 normal scores" in verdicts.note


def test_threshold_is_where_the_verdict_turns_to_the_last_bit():
    decision = Conformal(0.005).fit(np.random.default_rng(4).lognormal(size=80))
    threshold = decision.threshold
    verdicts = decision.judge([threshold, np.nextafter(threshold, np.inf)])
    assert verdicts.anomalous.tolist() == [0, 1]
    assert verdicts.p_value[0] > 0.005 >= verdicts.p_value[1] * (1 - 1e-11)


def test_tail_is_used_only_where_ranks_do_not_reach():
    calibration = np.random.default_rng(6).normal(size=99)
    assert set(Conformal(0.01).fit(calibration).judge([-9.0, 99.0]).basis) == {"rank"}
    assert Conformal(0.00999).fit(calibration).judge([-9.0, 99.0]).basis == ["rank", "tail"]


def test_tail_follows_shift_and_scale():
    scores = np.sort(np.random.default_rng(9).lognormal(size=120))
    one, two = fit_tail(scores), fit_tail(scores * 1000 + 7)
    beyond = scores[-1] * np.array([1.0, 1.2, 2.0])
    np.testing.assert_allclose(one.beyond(beyond), two.beyond(beyond * 1000 + 7), rtol=1e-9)
    assert one.shape == pytest.approx(two.shape)


def test_shape_is_between_exponential_and_one():
    rng = np.random.default_rng(10)
    shapes = [fit_tail(np.sort(draw)).shape for draw in (rng.random(200), rng.pareto(0.3, 200))]
    assert shapes[0] < 0.2
    assert 0.5 < shapes[1] <= 1
    assert fit_tail(np.sort(rng.random(49))) is None
    assert fit_tail(np.sort(rng.integers(0, 4, 200).astype(float))) is None
