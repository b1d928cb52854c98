"""The ensemble for tables: its score, its parts, its model folder, its false-alarm rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import offnominal as off
from offnominal.core.errors import ModelRefused
from offnominal.decide import Conformal
from offnominal.decide.combination import Surprise
from offnominal.table.auto import agreeing, combined

QUICK = {"members": ("knn", "hbos")}


def rows_of(seed: int, n: int = 200) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(n, 5)) @ np.random.default_rng(9).normal(size=(5, 5))


def test_score_is_the_mean_surprise_of_the_members() -> None:
    rows, new = rows_of(0), 2 * rows_of(1, 30)
    found = off.make("auto", "table", scaling="none", **QUICK).fit(rows).anomaly_score(new)
    expected = np.zeros(30)
    for name in QUICK["members"]:
        member = off.make(name, "table", scaling="none")
        expected += Surprise.of(member.fit_score(rows))(member.anomaly_score(new)) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_largest_surprise() -> None:
    surprises = np.array([[1.0, 3.0], [2.0, 0.0]])
    np.testing.assert_array_equal(combined(surprises, "largest"), [3, 2])
    np.testing.assert_array_equal(combined(surprises, "mean"), [2, 1])


def test_every_row_takes_part_in_calibration_where_members_learn_from_some() -> None:
    detector = off.make("auto", "table", most=80, **QUICK)
    assert detector.fit_score(rows_of(0)).shape == (200,)
    assert detector.decision_.report()["n"] == 200
    assert detector._each[0].bank_.shape[0] == 80


def test_members_that_disagree_are_left_out() -> None:
    random = np.random.default_rng(0)
    shared = random.normal(size=300)
    members = np.stack([shared + 0.3 * random.normal(size=300) for _ in range(4)], axis=1)
    members[:, 1] = random.normal(size=300)
    assert agreeing(members) == [0, 2, 3]
    detector = off.make("auto", "table", members=("knn", "hbos", "pca"), agreeing=True).fit(rows_of(0))
    assert 2 <= len(detector.headers_) <= 3


def test_a_saved_ensemble_scores_the_same_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    rows, new = rows_of(0), rows_of(1, 30)
    detector = off.make("auto", "table", members=("knn", "iforest", "gmm")).fit(rows)
    detector.save(tmp_path / "model")
    again = off.load(tmp_path / "model")
    np.testing.assert_allclose(again.anomaly_score(new), detector.anomaly_score(new), rtol=1e-6)
    del detector.arrays_["0.bank_"]
    detector.save(tmp_path / "damaged")
    with pytest.raises(ModelRefused):
        off.load(tmp_path / "damaged")


def test_the_false_alarm_rate_holds_though_members_depend_on_each_other() -> None:
    rates = []
    for seed in range(20):
        detector = off.make("auto", "table", **QUICK).fit(rows_of(2 * seed), decision=Conformal(0.05))
        rates.append(detector.predict(rows_of(2 * seed + 1, 400)).mean())
    assert np.mean(rates) <= 0.05 + 2 * np.std(rates) / np.sqrt(len(rates))


def test_no_members_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        off.make("auto", "table", members=()).fit(rows_of(0))
