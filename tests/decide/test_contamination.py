"""The posterior of the share of anomalies: the mixture under it, its prior constraints, its coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from offnominal.core.errors import BadItems, BadSource, ModelRefused
from offnominal.decide import contamination_posterior, decision, restore_decision
from offnominal.decide.contamination import EstimatedContamination, first_anomalous, normalised, solve
from offnominal.decide.mixture import fit_mixture, starting_shares


def scores_of(seed: int = 0, n: int = 800, share: float = 0.06, detectors: int = 3) -> np.ndarray:
    """Raw scores whose logarithms are a mixture of three Gaussians, the highest a small share."""
    random = np.random.default_rng(seed)
    few = round(share * n)
    centres = np.repeat([4.0, 0.5, -1.0], [few, n // 4, n - few - n // 4])
    logs = centres[:, None] + 0.4 * random.normal(size=(n, detectors))
    return np.exp(logs - logs.min(axis=0) + math.log(0.01))


@pytest.mark.parametrize(("m", "k"), [(1, 4), (3, 8)])
def test_mixture_is_the_one_scikit_learn_finds(m: int, k: int) -> None:
    mixture = pytest.importorskip("sklearn.mixture")
    random = np.random.default_rng(m)
    rows = np.concatenate([random.normal(size=(150, m)), 5 + 0.5 * random.normal(size=(50, m))])
    start = random.dirichlet(np.ones(k), size=len(rows))

    class Started(mixture.BayesianGaussianMixture):
        def _initialize_parameters(self, X: np.ndarray, *rest: object, **more: object) -> None:
            self._initialize(X, start)

    peer = Started(
        n_components=k,
        weight_concentration_prior_type="dirichlet_process",
        weight_concentration_prior=0.01,
        max_iter=200,
        tol=1e-6,
    )
    # the peer takes its first step before it looks at the bound, as ours does
    peer.fit(rows)
    ours = fit_mixture(rows, start, rounds=200, tolerance=1e-6)
    held = peer.weight_concentration_[0] - 1 > 1e-8
    np.testing.assert_allclose(ours.points, peer.weight_concentration_[0][held] - 1, rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(ours.mean, peer.means_[held], rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(ours.covariance, peer.covariances_[held], rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(ours.freedom, peer.degrees_of_freedom_[held], rtol=1e-3)


def test_starting_shares_give_each_row_to_one_component() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2))
    shares = starting_shares(rows, 7, np.random.default_rng(1))
    assert shares.shape == (60, 7)
    assert set(np.unique(shares)) == {0.0, 1.0}
    np.testing.assert_array_equal(shares.sum(axis=1), 1)


def test_both_prior_constraints_hold() -> None:
    from scipy.stats import beta

    rank, alpha = np.array([3.0, 1.5, 0.2, -0.4]), np.array([30.0, 40.0, 300.0, 630.0])
    found = solve(rank, alpha, 0.01, 0.15, 0.01)
    assert found is not None
    exactly = first_anomalous(rank, *found)
    first = np.cumsum(alpha)
    above = np.append(beta.sf(0.15, first[:-1], alpha.sum() - first[:-1]), 1.0)
    assert 1 - exactly.sum() == pytest.approx(0.01, rel=1e-6)
    assert above @ exactly == pytest.approx(0.01, rel=1e-6)


def test_no_solution_where_the_highest_component_is_large() -> None:
    assert solve(np.array([1.0, 0.0]), np.array([400.0, 600.0]), 0.01, 0.15, 0.01) is None
    # two equal halves: nothing that could be a small share of anomalies
    random = np.random.default_rng(0)
    logs = np.repeat([0.0, 9.0], 100) + 0.3 * random.normal(size=200)
    found = contamination_posterior(np.exp(logs), components=6)
    assert not found.solved
    assert found.mean == 0


def test_the_first_components_are_anomalous_one_after_another() -> None:
    exactly = first_anomalous(np.array([2.0, 1.0]), -1.0, 0.5)
    one, two = 1 / (1 + math.exp(0.5 - 2)), 1 / (1 + math.exp(0.5 - 1))
    np.testing.assert_allclose(exactly, [one * (1 - two), one * two])


def test_a_clear_share_is_found_and_lies_in_the_interval() -> None:
    for seed in range(3):
        found = contamination_posterior(scores_of(seed), components=20, seed=seed)
        low, high = found.interval(0.9)
        assert low <= 0.06 <= high
        assert found.mean == pytest.approx(0.06, abs=0.03)
        assert found.samples.shape == (10_000,)
        assert found.samples.max() < 0.25
        # without any anomaly in one of a hundred samples, as the prior says
        assert (found.samples == 0).mean() == pytest.approx(0.01, abs=2e-3)


def test_the_same_seed_gives_the_same_posterior() -> None:
    one, two = (contamination_posterior(scores_of(), components=8, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.samples, two.samples)


def test_prior_counts_of_empty_components_lift_a_small_share() -> None:
    least, whole = (
        contamination_posterior(scores_of(share=0.02, n=500), components=100, whole_prior=way).weight[0]
        for way in (False, True)
    )
    assert least == pytest.approx(0.02, abs=0.005)
    assert whole > least + 0.01


def test_scores_are_normalised_as_the_paper_says() -> None:
    scores = np.array([[1.0, 5.0, 7.0]] * 10 + [[2.0, 5.0, 9.0]] * 10)
    rows = normalised(scores)
    assert rows.shape == (20, 2)  # the second detector scores all alike
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(rows.std(axis=0), 1)


def test_decision_flags_the_share_and_shows_the_interval() -> None:
    scores = scores_of()
    posterior = contamination_posterior(scores, components=20)
    made = posterior.decision(0.8).fit(scores[:, 0])
    report = made.report()
    flagged = made.judge(scores[:, 0]).anomalous.mean()
    assert flagged == pytest.approx(posterior.mean, abs=1 / 800 + 1e-9)
    assert report["fraction"] == posterior.mean
    assert tuple(report["interval"]) == posterior.interval(0.8)
    low, high = report["thresholds"]
    assert low <= report["threshold"] <= high


def test_decision_estimates_from_its_own_scores_and_is_stored() -> None:
    scores = scores_of(detectors=1)[:, 0]
    made = decision("estimated_contamination", seed=2).fit(scores)
    assert made.report()["fraction"] == pytest.approx(0.06, abs=0.03)
    again = restore_decision("estimated_contamination", made.get_params(), made.state())
    assert again.report() == made.report()
    np.testing.assert_array_equal(again.judge(scores).anomalous, made.judge(scores).anomalous)
    for change in ({"estimate": None}, {"estimate": {"fraction": 1}}):
        with pytest.raises(ModelRefused, match="damaged"):
            EstimatedContamination.restore(made.get_params(), made.state() | change)


def test_what_cannot_be_estimated_is_refused() -> None:
    with pytest.raises(BadSource, match="at least 20"):
        contamination_posterior(np.arange(10.0))
    with pytest.raises(BadSource, match="alike"):
        contamination_posterior(np.ones((30, 2)))
    with pytest.raises(BadItems, match="position 3"):
        contamination_posterior(np.where(np.arange(30) == 3, np.nan, np.arange(30.0)))
    with pytest.raises(ValueError, match="together"):
        EstimatedContamination(0.1)
    with pytest.raises(ValueError, match=r"lie in \[0, 1\)"):
        EstimatedContamination(0.1, (0.2, 1.5))


@pytest.mark.slow
def test_intervals_hold_the_share_more_often_than_not() -> None:
    """The level itself is not reached, docs/benchmarks/contamination.md says by how much."""
    inside = []
    for seed in range(60):
        scores, share = simulated(seed)
        found = contamination_posterior(scores, components=20, draws=4_000, seed=seed)
        low, high = found.interval(0.9)
        inside.append(low <= share <= high)
    assert np.mean(inside) > 0.65


def simulated(seed: int, n: int = 1_000, detectors: int = 3) -> tuple[np.ndarray, float]:
    """Scores of a mixture, and the share of anomalies drawn by the model's own rule."""
    random = np.random.default_rng(seed)
    small = random.uniform(0.01, 0.05, 3)
    weights = np.append(small, [0.35, 0.65 - small.sum()])
    means = np.array([9.0, 6.0, 3.0, 0.0, -2.0])[:, None] + random.uniform(-3, 3, (5, detectors))
    component = random.choice(5, size=n, p=weights)
    logs = means[component] + 0.15 * random.normal(size=(n, detectors))
    centre, scale = logs.mean(axis=0), logs.std(axis=0)
    rank = (((means - centre) / scale) / (1 + 0.15 / scale)).mean(axis=1)
    order = np.argsort(-rank)
    constraints = solve(rank[order], n * weights[order], 0.01, 0.15, 0.01)
    if constraints is None:
        return simulated(seed + 1_000, n, detectors)
    exactly = first_anomalous(rank[order], *constraints)
    many = int(random.choice(6, p=np.append(1 - exactly.sum(), exactly)))
    scores = np.exp(logs - logs.min(axis=0) + math.log(0.01))
    return scores, float(weights[order][:many].sum())
