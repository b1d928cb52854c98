"""PNI compares patches with what is likely where they lie and beside their neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from offnominal.core.seeds import generator  # noqa: E402
from offnominal.image.networks.pni import (  # noqa: E402
    SHARPNESS,
    Estimator,
    Neighbourhood,
    Refiner,
    refinement_loss,
)
from offnominal.image.pni import PNI, position_prior  # noqa: E402
from offnominal.metrics import auroc  # noqa: E402
from offnominal.synth import generate  # noqa: E402

SIZE = 64
SMALL: dict[str, Any] = {
    "image_size": SIZE,
    "levels": ("4", "6"),
    "bank_size": 200,
    "distribution": 48,
    "window": 3,
    "hidden": 32,
    "depth": 3,
    "steps": 60,
    "batch": 4,
    "rate": 5e-3,
    "smoothing": 2.0,
}


def boards(count: int, first: int = 0) -> list[np.ndarray]:
    """Stripes on the left half, checks on the right one, with noise."""
    found = []
    y, x = np.mgrid[:SIZE, :SIZE]
    left = 120 + 50 * np.sign(np.sin(y / 2.0))
    right = 120 + 50 * np.sign(np.sin(y / 2.5) * np.sin(x / 2.5))
    base = np.where(x < SIZE // 2, left, right)[..., None]
    for number in range(first, first + count):
        noise = generator(11, "pni", str(number)).normal(0, 5, (SIZE, SIZE, 3))
        found.append(np.clip(base + noise, 0, 255).astype(np.uint8))
    return found


def misplaced(items: list[np.ndarray]) -> list[np.ndarray]:
    """A piece of the checks among the stripes: each patch is normal, but not there."""
    found = [item.copy() for item in items]
    for item in found:
        item[20:44, 4:28] = item[20:44, 36:60]
    return found


@pytest.mark.parametrize("priors", ["both", "position", "neighbourhood"])
def test_a_normal_piece_in_the_wrong_place_is_found_by_either_prior(priors: str) -> None:
    detector = PNI(priors=priors, **SMALL).fit(boards(16))  # type: ignore[arg-type]
    fresh, moved = boards(10, 50), misplaced(boards(10, 60))
    assert auroc([0] * 10 + [1] * 10, detector.anomaly_score([*fresh, *moved])) > 0.9
    inside = [place[22:42, 6:26].mean() for place in detector.anomaly_map(moved)]
    outside = [place[22:42, 38:58].mean() for place in detector.anomaly_map(moved)]
    assert np.median(np.array(inside) / outside) > 1.1


def test_priors_raise_the_score_and_never_lower_it() -> None:
    normal, test = boards(12), [*boards(4, 50), *misplaced(boards(4, 60))]
    plain, gated = (PNI(priors=priors, **SMALL).fit(normal) for priors in ("none", "position"))  # type: ignore[arg-type]
    for one, two in zip(plain.anomaly_map(test), gated.anomaly_map(test), strict=True):
        assert (two >= one - 1e-4 * one.max()).all()
    gain = gated.anomaly_score(test) / plain.anomaly_score(test)
    assert gain[4:].mean() > 1.1 * gain[:4].mean()


def test_planted_defects_are_found_with_the_refiner_too() -> None:
    detector = PNI(refine=True, mixed=0.3, synthetic=40, refine_steps=60, **SMALL).fit(boards(16))
    fresh = boards(10, 50)
    planted = generate(boards(10, 70), 10, kinds=["missing piece", "stain"], seed=3)
    assert auroc([0] * 10 + [1] * 10, detector.anomaly_score([*fresh, *planted.items])) > 0.9
    maps = detector.anomaly_map(planted.items)
    ranks = [
        auroc(mask.ravel().astype(int), found.ravel())
        for mask, found in zip(planted.masks, maps, strict=True)
    ]
    assert np.median(ranks) > 0.85


def test_estimator_is_the_formula() -> None:
    random = np.random.default_rng(0)
    bank = random.normal(size=(12, 5)).astype(np.float32)
    owners = np.r_[np.arange(4), random.integers(4, size=8)]
    prior = random.dirichlet(np.full(4, 0.3), 6)
    features = random.normal(size=(2, 2, 3, 5)).astype(np.float32)
    estimator = Estimator(
        torch.from_numpy(bank), torch.from_numpy(owners), torch.from_numpy(prior.astype(np.float32)), None
    )
    wanted = np.empty((2, 6))
    for view, rows in enumerate(features.reshape(2, 6, 5)):
        for place, row in enumerate(rows):
            admitted = [c for c in range(12) if prior[place, owners[c]] > 0.5 / 4]
            likely = [np.exp(-SHARPNESS * np.linalg.norm(row - bank[c])) for c in admitted]
            wanted[view, place] = -np.log(max(likely))
    found = estimator(torch.from_numpy(features)).reshape(2, 6)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4)


def test_scores_of_two_priors_are_averaged() -> None:
    random = np.random.default_rng(1)
    bank, owners = torch.randn(9, 4), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2])
    prior = torch.from_numpy(random.dirichlet(np.full(3, 0.2), 16).astype(np.float32))
    network = Neighbourhood(torch.nn.Identity(), 4, 3, 3, reduced=4, hidden=8, depth=2, dropout=0.0).eval()
    features = torch.randn(1, 4, 4, 4)
    with torch.no_grad():
        both, one, other = (
            Estimator(bank, owners, p, n).eval()(features)
            for p, n in ((prior, network), (prior, None), (None, network))
        )
    torch.testing.assert_close(both, (one + other) / 2)


def test_neighbourhood_does_not_see_the_patch_itself() -> None:
    network = Neighbourhood(torch.nn.Identity(), 3, 5, 7, reduced=2, hidden=8, depth=3, dropout=0.0).eval()
    features = torch.randn(1, 9, 9, 3)
    other = features.clone()
    other[0, 4, 4] += 10
    with torch.no_grad():
        changed = (network(features) - network(other)).abs().amax(1)[0] > 1e-6
    assert not changed[4, 4]
    assert changed[2:7, 2:7].sum() == 24
    changed[2:7, 2:7] = False
    assert not changed.any()


def test_position_prior_counts_the_window() -> None:
    nearest = np.random.default_rng(2).integers(5, size=(3, 6, 7))
    found = position_prior(nearest, 5, 3).reshape(6, 7, 5)
    for y in range(6):
        for x in range(7):
            window = nearest[:, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].ravel()
            np.testing.assert_allclose(found[y, x], np.bincount(window, minlength=5) / len(window))


def test_refinement_loss_is_zero_at_the_mask_and_sees_edges() -> None:
    mask = torch.zeros(1, 8, 8)
    mask[:, 2:5, 3:6] = 1
    assert float(refinement_loss(40 * mask - 20, mask)) < 1e-6
    flat = torch.full_like(mask, float(torch.logit(mask.mean())))
    value = float((flat.sigmoid() - mask).square().mean())
    slopes = float(refinement_loss(flat, mask)) - value
    assert slopes == pytest.approx(2 * (2 * 3) / (7 * 8), rel=1e-4)  # two edges of three in each direction


def test_refiner_takes_image_and_map() -> None:
    refiner = Refiner(16, (4, 8)).eval()
    pixels, found = torch.rand(2, 16, 16, 3) * 255, torch.rand(2, 16, 16)
    with torch.no_grad():
        plain = refiner(pixels, found)
        assert plain.shape == (2, 16, 16)
        assert (refiner(255 - pixels, found) - plain).abs().max() > 1e-5
        assert (refiner(pixels, 1 - found) - plain).abs().max() > 1e-5


@pytest.mark.parametrize("window", [1, 4])
def test_window_must_have_neighbours_and_a_centre(window: int) -> None:
    with pytest.raises(ValueError, match="window"):
        PNI(**(SMALL | {"window": window})).fit(boards(4))
