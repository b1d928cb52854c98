"""Attributions against what is known: linear scores, Shapley values by enumeration, looking away."""

from __future__ import annotations

from itertools import combinations
from math import factorial

import numpy as np
import pytest

from offnominal.audit import kernel_shap, lime, superpixels, trust, write_trust
from offnominal.audit.trust import best_jaccard
from offnominal.core.errors import BadSource, NoDecisionError
from offnominal.core.store import read_json
from offnominal.data import images
from offnominal.decide import Conformal
from offnominal.persistence import make

SIDE = 40
GRID = (np.arange(SIDE)[:, None] // 20 * 2 + np.arange(SIDE) // 20).astype(np.intp)  # four quarters
FLAT = [np.full((SIDE, SIDE, 3), 90, np.uint8)]


def quarters(pictures: list[np.ndarray]) -> np.ndarray:
    """Whether each quarter (n, 4) shows its pixels: hidden ones are flat."""
    return np.array(
        [[picture[part == GRID].std(axis=0).max() > 1 for part in range(4)] for picture in pictures], float
    )


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def test_both_find_the_weights_of_a_linear_score(noise: np.ndarray) -> None:
    weights = np.array([3.0, 0.0, -1.0, 0.5])

    def score(pictures: list[np.ndarray]) -> np.ndarray:
        return 10 + quarters(pictures) @ weights

    np.testing.assert_allclose(kernel_shap(score, noise, GRID, FLAT, samples=200).weights, weights, atol=1e-8)
    np.testing.assert_allclose(lime(score, noise, GRID, FLAT, samples=400).weights, weights, atol=0.1)


def test_shap_agrees_with_shapley_values_by_enumeration(noise: np.ndarray) -> None:
    def value(shown: np.ndarray) -> np.ndarray:
        return 2 * shown[:, 0] * shown[:, 1] + shown[:, 2] - shown[:, 0] * shown[:, 2] * shown[:, 3]

    exact = np.zeros(4)
    for part in range(4):
        rest = [other for other in range(4) if other != part]
        for size in range(4):
            for chosen in combinations(rest, size):
                without = np.zeros((1, 4))
                without[0, list(chosen)] = 1
                with_it = without.copy()
                with_it[0, part] = 1
                share = factorial(size) * factorial(3 - size) / factorial(4)
                exact[part] += share * float((value(with_it) - value(without))[0])
    found = kernel_shap(lambda pictures: value(quarters(pictures)), noise, GRID, FLAT, samples=6000)
    np.testing.assert_allclose(found.weights, exact, atol=0.05)
    assert found.weights.sum() == pytest.approx(exact.sum())


def test_superpixels_cover_an_image_without_gaps(noise: np.ndarray) -> None:
    for image in (noise, np.zeros((SIDE, SIDE, 1), np.float32), np.full((2, 2, 3), 7, np.uint16)):
        numbers = superpixels(image, 30)
        assert numbers.shape == image.shape[:2]
        assert set(np.unique(numbers)) == set(range(numbers.max() + 1))
        assert numbers.max() >= 1
    with pytest.raises(ValueError, match="cannot be cut"):
        superpixels(noise[:1, :1], 30)


def test_best_jaccard_is_the_best_over_thresholds() -> None:
    random = np.random.default_rng(1)
    for _ in range(20):
        mask = random.random((SIDE, SIDE)) < random.uniform(0.05, 0.6)
        weights = np.round(random.normal(size=4), 1)
        level = weights[GRID]
        slow = max(
            (mask & (level >= cut)).sum() / (mask | (level >= cut)).sum() for cut in np.unique(weights)
        )
        assert best_jaccard(mask, GRID, weights) == pytest.approx(slow)


def scene(number: int, defect: bool) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng((number, int(defect)))
    picture = 120 + 4 * np.sin(np.arange(64) / 9)[:, None, None] + random.normal(0, 5, (64, 64, 3))
    mask = np.zeros((64, 64), bool)
    if defect:
        mask[38:48, 10:20] = True
        picture[mask] = np.where((np.indices((10, 10)).sum(axis=0) // 2 % 2).ravel()[:, None], 240, 15)
    return np.clip(picture, 0, 255).astype(np.uint8), mask


def test_a_detector_that_looks_right_is_trusted_and_one_that_looks_away_is_not(tmp_path) -> None:
    normals = [scene(number, False)[0] for number in range(24)]
    detector = make("pixel_statistics", image_size=64, largest_shift=0.0).fit(
        normals, decision=Conformal(0.1)
    )
    found = [scene(number, True) for number in range(3)]
    pictures = [*(image for image, _ in found), *normals[:4]]
    labels, none = [1] * 3 + [0] * 4, [None] * 4
    source = images(pictures, labels=labels, masks=[*(mask for _, mask in found), *none])
    audit = trust(detector, source, samples=300, parts=40)
    assert [item.anomalous for item in audit.items] == [True] * 3
    assert audit.explanations == ["lime", "shap", "map"]
    for row in audit.summary():
        assert row["wrong_reason"] == 0, row
        assert row["jaccard"] > 1.4 * row["chance"]
    # The same verdicts, with the anomaly said to lie elsewhere: they rest on the wrong pixels.
    elsewhere = [np.roll(mask, (-30, 34), axis=(0, 1)) for _, mask in found]
    away = images(pictures, labels=labels, masks=[*elsewhere, *none])
    for row in trust(detector, away, samples=300, parts=40).summary():
        assert row["wrong_share"] == 1, row

    page = write_trust(audit, tmp_path / "audit")
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/webp;base64,") == 3 * 4
    assert "http" not in text
    assert read_json(tmp_path / "audit" / "trust.json")["items"][0]["jaccard"]["lime"] > 0
    assert len((tmp_path / "audit" / "trust.csv").read_text(encoding="utf-8").splitlines()) == 4


def test_what_cannot_be_audited_says_so() -> None:
    normals = [scene(number, False)[0] for number in range(24)]
    detector = make("pixel_statistics", image_size=64, largest_shift=0.0).fit(
        normals, decision=Conformal(0.1)
    )
    with pytest.raises(BadSource, match="no anomalous image with a mask"):
        trust(detector, images(normals[:2], labels=[0, 1]))
    with pytest.raises(BadSource, match="no normal image"):
        trust(detector, images(normals[:2], labels=[1, 1]))
    undecided = make("pixel_statistics", image_size=64, largest_shift=0.0).partial_fit(normals)
    with pytest.raises(NoDecisionError, match="calibrate"):
        trust(undecided, normals)
