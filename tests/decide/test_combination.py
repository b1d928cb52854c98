"""p-values of several detectors merged into one, and scores put on one scale."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offnominal.core.errors import BadItems, BadSource
from offnominal.decide.combination import Merging, Surprise, combine_p_values

ALWAYS: list[Merging] = ["mean", "geometric", "bonferroni", "harmonic"]


def p_values(dependence: float, detectors: int, n: int = 20_000) -> np.ndarray:
    """Uniform p-values of detectors that share some of what they see."""
    from scipy.stats import norm

    random = np.random.default_rng(detectors)
    shared = random.normal(size=(n, 1))
    mixed = math.sqrt(dependence) * shared + math.sqrt(1 - dependence) * random.normal(size=(n, detectors))
    return np.asarray(norm.sf(mixed))


@pytest.mark.parametrize("how", ALWAYS)
@pytest.mark.parametrize("dependence", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("detectors", [2, 5])
def test_merged_p_values_hold_whatever_the_dependence(
    how: Merging, dependence: float, detectors: int
) -> None:
    merged = combine_p_values(p_values(dependence, detectors), how)
    for level in (0.01, 0.05, 0.2):
        assert (merged <= level).mean() <= level + 3 * math.sqrt(level / 20_000)


def test_fishers_holds_for_independent_ones_only() -> None:
    from scipy.stats import combine_pvalues

    independent, same = p_values(0.0, 3), p_values(1.0, 3)
    merged = combine_p_values(independent, "fisher")
    expected = [combine_pvalues(row, method="fisher").pvalue for row in independent[:20]]
    np.testing.assert_allclose(merged[:20], expected)
    assert (merged <= 0.05).mean() == pytest.approx(0.05, abs=0.006)
    assert (combine_p_values(same, "fisher") <= 0.05).mean() > 0.09


def test_merged_p_values_by_hand() -> None:
    p = np.array([[0.01, 0.04], [0.5, 1.0], [np.nan, 0.1]])
    np.testing.assert_allclose(combine_p_values(p, "mean")[:2], [0.05, 1.0])
    np.testing.assert_allclose(combine_p_values(p, "geometric")[:2], [math.e * 0.02, 1.0])
    np.testing.assert_allclose(combine_p_values(p, "bonferroni")[:2], [0.02, 1.0])
    np.testing.assert_allclose(combine_p_values(p, "harmonic")[:2], [2 * 0.016, 1.0])
    assert np.isnan(combine_p_values(p)[2])
    np.testing.assert_array_equal(combine_p_values(p[:2, :1]), [0.01, 0.5])
    assert combine_p_values([[0.0, 0.3]], "harmonic")[0] == 0


def test_what_is_no_p_value_is_refused() -> None:
    with pytest.raises(BadItems, match="position 1"):
        combine_p_values([[0.1, 0.2], [0.1, 1.2]])
    with pytest.raises(BadSource, match="one column a detector"):
        combine_p_values([0.1, 0.2])
    with pytest.raises(ValueError, match="how must be"):
        combine_p_values([[0.1, 0.2]], "stouffer")  # type: ignore[arg-type]


def test_surprise_is_the_logarithm_of_the_conformal_p_value() -> None:
    scores = np.random.default_rng(0).normal(size=200)
    surprise = Surprise.of(scores)
    p = np.array([(1 + (scores >= score).sum()) / 201 for score in scores])
    np.testing.assert_allclose(surprise(scores), -np.log(p))


def test_surprise_beyond_the_highest_goes_on_in_mean_excesses() -> None:
    scores = np.arange(100.0)
    surprise = Surprise.of(scores)
    excess = (np.arange(90, 100) - 90).mean()
    found = surprise(np.array([99.0, 99.0 + excess, 99.0 + 5 * excess]))
    np.testing.assert_allclose(found - found[0], [0, 1, 5])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60),
    st.lists(st.floats(-1e7, 1e7), min_size=2, max_size=20),
)
def test_surprise_keeps_the_order(scores: list[float], new: list[float]) -> None:
    surprise = Surprise.of(scores)
    ordered = surprise(np.sort(new))
    assert (np.diff(ordered) >= -1e-12).all()  # up to rounding
    assert (ordered >= 0).all()
    assert np.isfinite(ordered).all()


def test_surprise_does_not_depend_on_the_unit_of_the_scores() -> None:
    scores, new = np.random.default_rng(1).gamma(2, size=(2, 300))
    np.testing.assert_allclose(Surprise.of(scores)(3 * new), Surprise.of(scores / 3)(new), rtol=1e-9)


def test_thinned_out_surprise_is_close_to_the_whole() -> None:
    scores = np.random.default_rng(2).normal(size=30_000)
    surprise = Surprise.of(scores)
    assert len(surprise.knots) <= 2_048
    grid = np.linspace(-2, 5, 400)
    p = (1 + len(scores) - np.searchsorted(np.sort(scores), grid)) / (len(scores) + 1)
    inside = p > 0.005  # further up scores lie apart, and values between them are interpolated
    np.testing.assert_allclose(surprise(grid)[inside], -np.log(p)[inside], atol=0.05)


def test_too_few_scores_to_calibrate_are_refused() -> None:
    with pytest.raises(BadSource, match="at least 2"):
        Surprise.of([1.0])
    assert Surprise.of([1.0, 1.0])(np.array([0.0, 1.0, 2.0])).tolist() == [0.0, 0.0, 1.0]
