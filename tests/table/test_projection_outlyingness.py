"""Random projection outlyingness, plain and behind a network, on rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import offnominal as off
from offnominal.metrics import auroc
from offnominal.normality.outlyingness import unit_directions
from offnominal.table.rpo import RPO


def rows(count: int, seed: int, width: int = 6) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(count, width)) @ np.random.default_rng(99).normal(size=(width, width))


@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_score_is_the_definition(aggregate: str) -> None:
    train, test = rows(60, 0), rows(9, 1)
    found = RPO(projections=40, aggregate=aggregate, scaling="none", seed=2).fit(train)  # type: ignore[arg-type]
    directions = unit_directions(6, 40, seed=2)
    wanted = []
    for row in test:
        each = []
        for u in directions.T:
            values = train @ u
            middle = np.median(values)
            each.append(abs(row @ u - middle) / np.median(np.abs(values - middle)))
        wanted.append(max(each) if aggregate == "max" else sum(each) / 40)
    np.testing.assert_allclose(found.anomaly_score(test), wanted, rtol=1e-9)


@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_contributions_are_the_score_but_for_the_medians(aggregate: str) -> None:
    """Rows symmetric about 0 have medians of 0, and then the columns' parts are the whole score."""
    half = rows(40, 0)
    detector = RPO(projections=50, aggregate=aggregate, scaling="none").fit(np.r_[half, -half])  # type: ignore[arg-type]
    test = 5 * rows(8, 3)
    scores, parts = detector._explained(test)
    np.testing.assert_allclose(parts.sum(axis=1), scores, rtol=1e-6)


def test_a_third_of_anomalies_among_the_rows_do_not_hide_themselves() -> None:
    clean, off_ones = rows(70, 0), rows(30, 1) + 25
    contaminated = np.r_[clean, off_ones]
    labels = [0] * 70 + [1] * 30
    robust = RPO(scaling="none").fit(contaminated).anomaly_score(contaminated)
    assert auroc(labels, robust) > 0.99


# -------------------------------------------------------------------------------- behind a network


def modes(count: int, seed: int, spread: float = 0.3) -> np.ndarray:
    """Rows about three centres in eight columns."""
    random = np.random.default_rng(seed)
    centres = 4 * np.random.default_rng(7).normal(size=(3, 8))
    return centres[random.integers(3, size=count)] + spread * random.normal(size=(count, 8))


def test_training_lowers_the_mean_outlyingness() -> None:
    torch = pytest.importorskip("torch")
    from functools import partial

    from offnominal.nets.outlyingness import DeepOutlyingness, train_outlyingness
    from offnominal.nets.seeding import seeded
    from offnominal.nets.training import train

    given, directions = modes(256, 0).astype(np.float32), unit_directions(8, 200)
    with seeded(0, "outlyingness"):
        fresh = DeepOutlyingness(given.mean(0), given.std(0), (32,), directions)
    learned = train_outlyingness(
        given, directions, hidden=(32,), steps=150, batch=64, rate=2e-3, seed=0, run=partial(train, seed=0)
    )
    with torch.no_grad():
        before, after = (float(network.loss(torch.from_numpy(given))) for network in (fresh, learned))
        codes = learned.encode(torch.from_numpy(given))
    assert after < 0.9 * before
    assert float(codes.std()) > 0.05, "codes have not collapsed"
    torch.testing.assert_close(learned.directions, fresh.directions)


def test_loss_is_the_definition() -> None:
    torch = pytest.importorskip("torch")
    from offnominal.nets.outlyingness import DeepOutlyingness

    given, directions = rows(31, 0).astype(np.float32), unit_directions(4, 12)
    network = DeepOutlyingness(given.mean(0), given.std(0), (5,), directions)
    with torch.no_grad():
        codes = network.encode(torch.from_numpy(given)).numpy()
        found = float(network.loss(torch.from_numpy(given)))
    values = codes @ directions
    apart = np.abs(values - np.median(values, axis=0))
    assert found == pytest.approx((apart / np.median(apart, axis=0)).mean(), rel=1e-4)


@pytest.mark.parametrize("aggregate", ["mean", "max"])
def test_deep_finds_rows_of_no_mode(aggregate: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    detector = off.make(
        "deep_rpo", "table", aggregate=aggregate, hidden=(64,), latent=16, projections=200, steps=150
    ).fit(modes(300, 0))
    normal, off_ones = modes(100, 1), modes(100, 2) + 3 * np.random.default_rng(5).normal(size=(100, 8))
    test = np.r_[normal, off_ones]
    scores = detector.anomaly_score(test)
    assert auroc([0] * 100 + [1] * 100, scores) > 0.9
    detector.save(tmp_path / "model")
    np.testing.assert_allclose(off.load(tmp_path / "model").anomaly_score(test), scores, rtol=1e-6)


def test_unknown_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="budget must be cpu or paper"):
        off.make("deep_rpo", "table", budget="gpu").fit(rows(20, 0))
