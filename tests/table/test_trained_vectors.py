"""Vector detectors that train a network: what they compute, compared with torch and with plain loops."""

from __future__ import annotations

import numpy as np
import pytest

import offnominal as off
from offnominal.metrics import auroc
from offnominal.table.slad import divergence

torch = pytest.importorskip("torch")


def rows_of(seed: int, n: int, anomalous: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows near a curved line in six columns; what is off leaves the line and not the range."""
    random = np.random.default_rng(seed)
    along = random.uniform(-2, 2, n)
    rows = np.stack([along, along**2, np.sin(2 * along), np.cos(along), -along, along**3 / 4], axis=1)
    labels = np.zeros(n, int)
    labels[:anomalous] = 1
    rows[:anomalous] = np.stack([random.permutation(column)[:anomalous] for column in rows.T], axis=1)
    return rows + 0.05 * random.normal(size=rows.shape), labels


@pytest.mark.parametrize(("name", "least"), [("autoencoder", 0.9), ("deep_svdd", 0.7), ("slad", 0.7)])
def test_rows_off_the_line_score_higher(name: str, least: float) -> None:
    normal, _ = rows_of(0, 400)
    new, labels = rows_of(1, 300, anomalous=100)
    found = off.make(name, "table", steps=300).fit(normal).anomaly_score(new)
    assert auroc(labels, found) > least


def test_autoencoder_names_the_column_that_is_off() -> None:
    normal, _ = rows_of(0, 400)
    detector = off.make("autoencoder", "table", steps=300).fit(normal)
    new, _ = rows_of(2, 40)
    new[np.arange(40), np.arange(40) % 6] += 2.5
    places = np.stack(list(detector.anomaly_map(new)))
    assert (places.argmax(axis=1) == np.arange(40) % 6).mean() > 0.7
    np.testing.assert_allclose(places.sum(axis=1), detector.anomaly_score(new), rtol=1e-4)


def test_layers_run_without_torch_as_with_it() -> None:
    from offnominal.table.dense import dense, forward, layers_of

    network = dense([5, 8, 3], bias=True, seed=1, name="test")
    rows = np.random.default_rng(0).normal(size=(20, 5))
    with torch.inference_mode():
        expected = network(torch.from_numpy(rows.astype(np.float32))).numpy()
    np.testing.assert_allclose(forward(layers_of(network), rows), expected, rtol=1e-5, atol=1e-6)


def test_divergence_is_jensen_and_shannons() -> None:
    from scipy.spatial.distance import jensenshannon

    random = np.random.default_rng(0)
    p, q = random.dirichlet(np.ones(6), size=(2, 10))
    p[0, :3] = 0
    p[0] /= p[0].sum()
    np.testing.assert_allclose(divergence(p, q), jensenshannon(p, q, axis=1) ** 2, rtol=1e-9)
    np.testing.assert_allclose(divergence(np.eye(2), np.eye(2)[::-1]), np.log(2))


def test_slad_scores_as_the_paper_says() -> None:
    """Group by group and part by part."""
    normal, _ = rows_of(0, 120)
    detector = off.make("slad", "table", steps=20, groups=3, parts=4, width=16, hidden=8, scaling="none")
    detector.fit(normal)
    new = rows_of(3, 5)[0]
    correlations = np.abs(np.corrcoef(normal.T))
    weights = (correlations.sum(axis=0) - 1) / 5
    weights = (weights - weights.min()) / (weights.max() - weights.min())
    np.testing.assert_allclose(detector.weights_, weights, rtol=1e-4, atol=1e-6)
    layers = detector.layers_
    for row, score in zip(new, detector.anomaly_score(new), strict=True):
        total = 0.0
        for group in range(3):
            said, labels = [], []
            for part in detector._columns[4 * group : 4 * group + 4]:
                view = row[part] @ detector._maps[len(part)]
                hidden = view @ layers["weight0"].T + layers["bias0"]
                hidden = np.where(hidden > 0, hidden, 0.1 * hidden)
                said.append(float(hidden @ layers["weight1"][0] + layers["bias1"][0]))
                labels.append(detector.weights_[part].sum() / 16 * 200)
            p, q = (np.exp(np.array(part) - max(part)) for part in (said, labels))
            total += float(divergence(p / p.sum(), q / q.sum()))
        assert score == pytest.approx(total / 3, rel=1e-5)


def test_slads_labels_follow_the_size_where_columns_weigh_alike() -> None:
    normal, _ = rows_of(0, 60)
    detector = off.make("slad", "table", steps=5, weighted=False).fit(normal)
    goals = detector._goals
    sizes = np.array([len(part) for part in detector._columns]).reshape(goals.shape)
    for size, goal in zip(sizes, goals, strict=True):
        assert goal[size == size.max()].min() >= goal.max() - 1e-12
        np.testing.assert_allclose(np.log(goal / goal[0]), (size - size[0]) / 128 * 200, rtol=1e-6, atol=1e-9)


def test_deep_svdds_centre_is_not_at_zero() -> None:
    normal, _ = rows_of(0, 60)
    detector = off.make("deep_svdd", "table", steps=5, pretraining=0).fit(normal)
    assert np.abs(detector.centre_).min() >= 0.1 - 1e-12
    assert not any(name.startswith("bias") for name in detector.layers_)


def test_slad_finds_defects_planted_in_correlated_columns() -> None:
    random = np.random.default_rng(0)
    pattern = random.normal(size=(3, 24))
    rows = 0.4 * random.normal(size=(200, 3)) @ pattern + random.normal(size=(200, 24))
    rows[160:, 4:13] += 9 * random.choice([-1, 1], (40, 9))
    detector = off.make("slad", "table", steps=500).fit(rows[:100])
    assert auroc(np.repeat([0, 1], [60, 40]), detector.anomaly_score(rows[100:])) > 0.95
