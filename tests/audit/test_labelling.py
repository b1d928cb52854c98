"""Labels under a budget: what is asked for, what share of anomalies is told from it, what is learned."""

from __future__ import annotations

import math

import numpy as np
import pytest

from offnominal.audit.labelling import Labelling, diverse, estimated_share
from offnominal.core.errors import BadItems, BadSource, NotFittedError
from offnominal.metrics import auroc

torch = pytest.importorskip("torch")


def items(seed: int = 0, n: int = 240, anomalous: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Two normal clusters, and a cluster that is as tight as they are: labels are needed to tell it."""
    random = np.random.default_rng(seed)
    labels = np.zeros(n, int)
    labels[:anomalous] = 1
    centres = np.where(labels[:, None] == 1, [0.0, 4.0, 0.0, 0.0], [4.0, 0.0, 0.0, 0.0])
    centres[anomalous::2] = [-4.0, 0.0, 0.0, 0.0]
    order = random.permutation(n)
    return (centres + 0.6 * random.normal(size=(n, 4)))[order], labels[order]


@pytest.mark.parametrize("backbone", ["transformations", "centre"])
def test_labels_help(backbone: str) -> None:
    rows, labels = items()
    new, truth = items(1)
    queue = Labelling(backbone=backbone, epochs=40, batch=60, rate=3e-3).fit(rows)  # type: ignore[arg-type]
    before = auroc(truth, queue.anomaly_score(new))
    asked = queue.query(12)
    queue.tell(labels[asked]).refit()
    after = auroc(truth, queue.anomaly_score(new))
    assert after > 0.9
    assert after > before
    np.testing.assert_allclose(queue.scores, queue.anomaly_score(rows), rtol=1e-5)


def test_diverse_queries_cover_all_clusters_and_the_first_is_central() -> None:
    random = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [9.0, 1.0], [-8.0, 2.0], [1.0, 9.0], [2.0, -9.0]])
    codes = np.repeat(centres, [60, 10, 10, 10, 10], axis=0) + 0.2 * random.normal(size=(100, 2))
    chosen = diverse(codes, 5, [], random)
    assert chosen[0] == np.linalg.norm(codes - codes.mean(axis=0), axis=1).argmin()
    nearest = np.linalg.norm(codes[chosen][:, None] - centres, axis=2).argmin(axis=1)
    assert sorted(nearest) == [0, 1, 2, 3, 4]
    # what was asked for before counts as drawn
    more = diverse(codes, 4, [int(chosen[0])], random)
    assert 0 not in np.linalg.norm(codes[more][:, None] - centres, axis=2).argmin(axis=1)


def test_diverse_queries_of_items_that_are_all_alike() -> None:
    chosen = diverse(np.zeros((6, 2)), 6, [], np.random.default_rng(0))
    assert sorted(chosen) == [0, 1, 2, 3, 4, 5]


def test_share_is_weighted_by_how_common_scores_are() -> None:
    """Queries that prefer high scores see many anomalies; the weights bring the share back."""
    random = np.random.default_rng(1)
    errors, plain = [], []
    for _ in range(30):
        labels = (random.random(2_000) < 0.1).astype(int)
        scores = random.normal(size=2_000) + 3 * labels
        chance = np.exp(scores)
        queried = random.choice(2_000, 60, replace=False, p=chance / chance.sum())
        truth = np.delete(labels, queried).mean()
        errors.append(estimated_share(scores, queried, labels[queried]) - truth)
        plain.append(labels[queried].mean() - truth)
    assert abs(np.mean(errors)) < 0.03
    assert np.mean(plain) > 0.2


def test_share_agrees_with_its_formula() -> None:
    random = np.random.default_rng(2)
    scores, queried = random.normal(size=50), np.arange(0, 50, 5)
    anomalous = random.integers(0, 2, 10)
    width = (scores.max() - scores.min()) / 10
    total = 0.0
    for at, label in zip(queried, anomalous, strict=True):
        p = sum(math.exp(-(((scores[at] - other) / width) ** 2) / 2) for other in scores) / 50
        q = sum(math.exp(-(((scores[at] - scores[other]) / width) ** 2) / 2) for other in queried) / 10
        total += label * p / q
    expected = min(max((total / 10 * 50 - anomalous.sum()) / 40, 0.0), 1.0)
    assert estimated_share(scores, queried, anomalous) == pytest.approx(expected)


def test_share_of_items_that_are_all_queried_or_all_alike() -> None:
    assert estimated_share(np.arange(4.0), np.arange(4), np.array([1, 0, 0, 0])) == 0.25
    assert estimated_share(np.ones(100), np.arange(10), np.repeat([0, 1], 5)) == pytest.approx(0.5)


@pytest.mark.parametrize("querying", ["diverse", "random", "highest"])
def test_no_item_is_asked_for_twice_and_the_seed_decides(querying: str) -> None:
    rows, labels = items()
    rounds = []
    for _ in range(2):
        queue = Labelling(querying=querying, seed=4).fit(rows)  # type: ignore[arg-type]
        first = queue.query(10)
        queue.tell(labels[first])
        second = queue.query(10)
        assert len(set(first) | set(second)) == 20
        rounds.append((*first, *second))
    assert rounds[0] == rounds[1]
    if querying == "highest":
        assert set(Labelling(seed=4).fit(rows).scores.argsort()[-10:]) == set(rounds[0][:10])


def test_an_unknown_label_is_not_asked_for_again_and_stays_unlabelled() -> None:
    rows, _ = items()
    queue = Labelling(epochs=1).fit(rows)
    asked = queue.query(5)
    queue.tell([-1] * 5)
    assert queue.contamination == 0
    assert not set(asked) & set(queue.query(20))


def test_refit_starts_from_the_same_network() -> None:
    rows, labels = items()
    queue = Labelling(epochs=2).fit(rows)
    queue.tell(labels[queue.query(8)])
    once = queue.refit().scores
    np.testing.assert_array_equal(queue.refit().scores, once)


def test_use_out_of_turn_is_refused() -> None:
    rows, _ = items()
    with pytest.raises(NotFittedError, match="call fit first"):
        Labelling().query(1)
    queue = Labelling().fit(rows)
    with pytest.raises(BadSource, match="241 items to label, 240 are left"):
        queue.query(241)
    queue.query(3)
    with pytest.raises(BadSource, match="tell their labels first"):
        queue.query(3)
    with pytest.raises(BadSource, match="3 items were asked for"):
        queue.tell([0, 1])
    with pytest.raises(BadSource, match="labels are 0"):
        queue.tell([0, 1, 2])
    with pytest.raises(BadSource, match="3 columns, fitted on 4"):
        queue.anomaly_score(rows[:, :3])
    with pytest.raises(BadItems, match="not finite"):
        Labelling().fit(np.where(rows == rows.max(), np.nan, rows))
    with pytest.raises(BadSource, match="too few"):
        Labelling().fit(rows[:5])
