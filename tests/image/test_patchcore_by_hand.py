"""PatchCore against the paper written out: every patch, every distance, no shortcut."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import offnominal as off
from offnominal.encoders import PatchHead, image_encoder

SIZE, LEVELS = 64, ("4", "6")


def _images(count: int, seed: int) -> list[Any]:
    random = np.random.default_rng(seed)
    wave = 120 + 40 * np.sin(np.arange(SIZE) / 5)[None, :, None]
    return [
        np.clip(wave + random.normal(0, 12, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8) for _ in range(count)
    ]


def _features(images: list[Any], neighbourhood: int) -> Any:
    encoder = image_encoder(
        levels=LEVELS, size=SIZE, precision="fp32", head=PatchHead(neighbourhood=neighbourhood)
    )
    (features,) = encoder.encode(np.stack(images))
    return features.astype(np.float64)


def _scores_by_hand(bank: Any, features: Any, *, b: int, reweight: bool) -> tuple[list[float], Any]:
    """Equations 5 to 7 of Roth et al., literally."""
    grids = np.empty(features.shape[:3])
    scores = []
    for number, image in enumerate(features):
        patches = image.reshape(-1, image.shape[-1])
        all_distances = np.array([[math.dist(patch, row) for row in bank] for patch in patches])
        nearest, distance = all_distances.argmin(axis=1), all_distances.min(axis=1)
        grids[number] = distance.reshape(grids.shape[1:])
        worst = int(distance.argmax())  # m^test,*
        star, patch = bank[nearest[worst]], patches[worst]  # m^*, and the patch itself
        weight = 1.0
        if reweight:
            order = np.argsort([math.dist(star, row) for row in bank], kind="stable")[:b]  # N_b(m^*)
            weight = 1 - math.exp(distance[worst]) / sum(math.exp(math.dist(patch, bank[m])) for m in order)
        scores.append(weight * distance[worst])
    return scores, grids


@pytest.mark.parametrize("neighbourhood", [1, 3])
@pytest.mark.parametrize(("reweight", "b"), [(False, 9), (True, 3), (True, 9)])
def test_every_patch_in_the_bank_gives_the_papers_scores(neighbourhood: int, reweight: bool, b: int) -> None:
    train, test = _images(3, 0), [*_images(3, 1), 255 - _images(1, 2)[0]]
    detector = off.make(
        "patchcore",
        image_size=SIZE,
        levels=LEVELS,
        precision="fp32",
        neighbourhood=neighbourhood,
        reweight=reweight,
        neighbours=b,
        bank_size=10_000,
        smoothing=0.0,
    ).fit(train)
    features = _features(train, neighbourhood)
    bank = features.reshape(-1, features.shape[-1])
    learned = detector.bank_  # type: ignore[attr-defined]
    assert sorted(map(tuple, np.round(learned, 3))) == sorted(
        map(tuple, np.round(bank.astype(np.float32), 3))
    )
    scores, grids = _scores_by_hand(bank, _features(test, neighbourhood), b=b, reweight=reweight)
    np.testing.assert_allclose(detector.anomaly_score(test), scores, rtol=1e-4)
    for place, grid in zip(detector.anomaly_map(test), grids, strict=True):
        cell = SIZE // grid.shape[0]
        middles = place[cell // 2 - 1 :: cell, cell // 2 - 1 :: cell]
        assert np.corrcoef(middles.ravel(), grid.ravel())[0, 1] > 0.98
        assert place.max() == pytest.approx(grid.max(), rel=0.1)


def test_weights_are_equation_seven() -> None:
    """The weight itself, on a bank small enough to check by hand."""
    from offnominal.normality import NearestRows

    random = np.random.default_rng(0)
    bank = random.normal(0, 3, (12, 4)).astype(np.float32)
    patches = random.normal(0, 5, (6, 4)).astype(np.float32)
    detector = off.make("patchcore", neighbours=4, precision="fp32")
    detector.bank_ = bank  # type: ignore[attr-defined]
    detector._search = NearestRows(bank, precision="fp32")  # type: ignore[attr-defined]
    distances, nearest = detector._search.search(patches, 1)  # type: ignore[attr-defined]
    found = detector._weights(patches, nearest[:, 0], distances[:, 0].astype(np.float64))  # type: ignore[attr-defined]
    for patch, star, weight in zip(patches, nearest[:, 0], found, strict=True):
        around = sorted(range(12), key=lambda row: math.dist(bank[star], bank[row]))[:4]
        total = sum(math.exp(math.dist(patch, bank[row])) for row in around)
        assert weight == pytest.approx(1 - math.exp(math.dist(patch, bank[star])) / total, rel=1e-4)
    assert (found > 0).all()
    assert (found < 1).all()


def test_far_patches_do_not_overflow_the_weights() -> None:
    detector = off.make("patchcore", image_size=SIZE, levels=LEVELS, precision="fp32", bank_size=50).fit(
        _images(3, 0)
    )
    extreme = np.zeros((SIZE, SIZE, 3), np.uint8)
    extreme[::2] = 255
    assert np.isfinite(detector.anomaly_score([extreme])).all()


def test_smaller_bank_covers_what_the_whole_has() -> None:
    stained = _images(1, 2)[0]
    stained[16:48, 16:48] = (255, 0, 0)
    train, test = _images(4, 0), [*_images(4, 1), stained]
    scores = {}
    for size in (64, 10_000):
        detector = off.make(
            "patchcore", image_size=SIZE, levels=LEVELS, precision="fp32", bank_size=size, reweight=False
        ).fit(train)
        assert len(detector.bank_) == min(size, 4 * 64)  # type: ignore[attr-defined]
        scores[size] = detector.anomaly_score(test)
    assert (scores[64] >= scores[10_000] * (1 - 1e-5)).all(), "fewer rows are never nearer"
    assert scores[64].argmax() == 4
