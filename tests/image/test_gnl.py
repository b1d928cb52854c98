"""GNL finds defects under shifted light, by views that are aligned and features that are matched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scenes import SIZE, boards, found_where_they_are

torch = pytest.importorskip("torch")

import offnominal as off  # noqa: E402
from offnominal.encoders import image_encoder  # noqa: E402
from offnominal.image.augmix import CHANGES, augmix, greyscale  # noqa: E402
from offnominal.image.networks.gnl import Matching, alignment, stages  # noqa: E402
from offnominal.synth import corrupt, generate  # noqa: E402

SMALL: dict[str, Any] = {
    "image_size": SIZE,
    "levels": ("3", "6", "10"),
    "width": 32,
    "steps": 40,
    "batch": 4,
    "rate": 5e-3,
    "smoothing": 2.0,
}


@pytest.mark.parametrize(
    "without", [{}, {"align": 0.0}, {"matching": 0.0}, {"align": 0.0, "matching": 0.0}], ids=str
)
def test_planted_defects_are_found_where_they_are(without: dict[str, Any]) -> None:
    detector = off.make("gnl", **(SMALL | without)).fit(boards(16))
    score, place = found_where_they_are(detector, ["missing piece", "stain"])
    assert score > 0.9
    assert place > 0.8


def test_a_shift_counts_for_less_than_in_plain_distillation() -> None:
    """Of what a defect adds to the score, other light alone adds a smaller share."""
    fresh = boards(10, 100)
    shifted = [corrupt(item, "brightness", 5) for item in boards(10, 300)]
    planted = generate(boards(10, 200), 10, kinds=["missing piece", "stain"], seed=4).items
    shares = []
    for settings in ({}, {"align": 0.0, "matching": 0.0}):
        detector = off.make("gnl", **(SMALL | settings)).fit(boards(16))
        level, moved, defect = (detector.anomaly_score(items).mean() for items in (fresh, shifted, planted))
        shares.append((moved - level) / (defect - level))
    assert shares[0] < shares[1]


def test_matching_is_exact_where_values_differ() -> None:
    """On values without ties it is the sort of the paper, up to the line between two quantiles."""
    random = np.random.default_rng(0)
    values = random.normal(3, 2, (1, 2, 40, 40)).astype(np.float32)
    reference = random.gamma(2, 1, (2, 40, 40)).astype(np.float32)
    matching = Matching(torch.from_numpy(reference), torch.tensor([2.0, 2.0]), 0.5)
    expected = np.empty_like(values)
    for channel in range(2):
        flat = values[0, channel].ravel()
        matched = np.empty_like(flat)
        matched[flat.argsort()] = np.sort(reference[channel].ravel())
        expected[0, channel] = (0.5 * flat + 0.5 * matched).reshape(40, 40)
    apart = np.abs(matching(torch.from_numpy(values)).numpy() - expected)
    assert np.quantile(apart, 0.95) < 0.05
    assert apart.mean() < 0.02


def test_matching_keeps_equal_values_equal() -> None:
    reference = torch.randn(1, 16, 16)
    values = torch.zeros(1, 1, 16, 16)
    values[..., 8:] = torch.rand(1, 1, 16, 8) + 1
    matching = Matching(reference, torch.ones(1), 0.5)
    given = matching(values)
    assert float(given[..., :8].std()) < 1e-6
    near = matching(values + 1e-6 * torch.randn(values.shape))
    assert float((near - given).abs().max()) < 1e-3
    itself = Matching(values[0], torch.ones(1), 1.0)(values)
    torch.testing.assert_close(itself[..., 8:], values[..., 8:], atol=0.02, rtol=0)


def test_stages_are_the_encoder() -> None:
    encoder = image_encoder(levels=("3", "6", "10"), size=SIZE, precision="fp32")
    pixels = np.stack(boards(2)).astype(np.float32)
    value, found = torch.from_numpy(pixels), []
    with torch.inference_mode():
        for stage in stages(encoder):
            value = stage(value)
            found.append(value.permute(0, 2, 3, 1).numpy())
    for level, expected in zip(found, encoder.encode(pixels), strict=True):
        np.testing.assert_allclose(level, expected, atol=1e-3 * np.abs(expected).max())


def test_alignment_is_the_cosine_of_whole_maps() -> None:
    one, view = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    expected = [
        1 - float(a.flatten() @ b.flatten() / a.norm() / b.norm()) for a, b in zip(one, view, strict=True)
    ]
    assert float(alignment(one, [view])) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(alignment(one, [one, one])) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changes_keep_shape_and_range(change: Any) -> None:
    view = boards(1)[0].astype(np.float32)
    before = view.copy()
    changed = np.clip(change(view, 3.0, np.random.default_rng(0)), 0, 255)
    np.testing.assert_array_equal(view, before)
    assert changed.shape == view.shape
    assert np.isfinite(changed).all()
    assert np.abs(changed - view).max() > 1
    flat = np.full((8, 8, 3), 77.0, np.float32)
    assert np.isfinite(change(flat, 3.0, np.random.default_rng(0))).all()


def test_augmix_is_drawn_by_the_generator_alone() -> None:
    view = boards(1)[0].astype(np.float32)
    one, two = (augmix(view, np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert one.dtype == np.float32
    assert 0 <= one.min() <= one.max() <= 255
    assert np.ptp(greyscale(view), axis=-1).max() == 0
