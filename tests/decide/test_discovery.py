"""False-discovery control against an independent implementation, and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from offnominal.core.errors import BadItems, BadSource
from offnominal.decide import Conformal, benjamini_hochberg, benjamini_yekutieli

BOTH = [(benjamini_hochberg, "bh"), (benjamini_yekutieli, "by")]


@pytest.mark.parametrize(("procedure", "method"), BOTH)
@settings(max_examples=60, deadline=None)
@given(p=st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.01, 0.05, math.nan])), max_size=40))
def test_adjusted_p_values_equal_the_reference(procedure, method, p):
    values = np.array(p, dtype=float)
    found = procedure(values, 0.1)
    kept = ~np.isnan(values)
    assert np.isnan(found.adjusted[~kept]).all()
    assert not found.rejected[~kept].any()
    if kept.any():
        np.testing.assert_allclose(
            found.adjusted[kept],
            false_discovery_control(values[kept], method=method),
            rtol=1e-12,
            atol=1e-300,
        )
        np.testing.assert_array_equal(found.rejected[kept], found.adjusted[kept] <= 0.1)


def test_rejections_follow_the_step_up_rule():
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(80), rng.random(20) * 0.01])
    ordered = np.sort(p)
    passing = [i for i in range(1, 101) if ordered[i - 1] <= 0.1 * i / 100]
    assert benjamini_hochberg(p, 0.1).rejected.sum() == max(passing)
    assert benjamini_yekutieli(p, 0.1).rejected.sum() < max(passing)


def test_conformal_p_values_keep_the_false_discovery_rate():
    """Shared calibration: the share of false calls stays at q times the share of normals."""
    rng = np.random.default_rng(1)
    q, wrong, found = 0.2, [], []
    for _ in range(600):
        decision = Conformal(0.05).fit(rng.normal(size=300))
        scores = np.concatenate([rng.normal(size=80), rng.normal(4, 1, 20)])
        rejected = benjamini_hochberg(decision.judge(scores).p_value, q).rejected
        wrong.append(rejected[:80].sum() / max(rejected.sum(), 1))
        found.append(rejected[80:].mean())
    assert np.mean(wrong) <= q * 0.8 + 2 * np.std(wrong) / math.sqrt(len(wrong))
    assert np.mean(found) > 0.5


@pytest.mark.parametrize(("procedure", "_method"), BOTH)
def test_wrong_input_is_refused(procedure, _method):
    with pytest.raises(BadItems, match=r"p-value at position 1: is 1\.5"):
        procedure([0.1, 1.5], 0.1)
    with pytest.raises(BadSource, match=r"got shape \(1, 1\)"):
        procedure([[0.1]], 0.1)
    with pytest.raises(ValueError, match="q must be a number between 0 and 1"):
        procedure([0.1], 1.0)
