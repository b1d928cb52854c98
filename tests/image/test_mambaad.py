"""MambaAD finds planted defects under each switch; its parts keep shapes and orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from offnominal.image.mambaad import MambaAD  # noqa: E402
from offnominal.image.networks.mambaad import Decoder, LocalityBlock, ScanBlock  # noqa: E402
from offnominal.metrics import auroc  # noqa: E402
from offnominal.synth import generate  # noqa: E402

SMALL: dict[str, Any] = {
    "image_size": 64,
    "levels": ("4", "10"),
    "width": 8,
    "depths": (0, 0, 1),
    "directions": 2,
    "state": 2,
    "steps": 40,
    "learning_rate": 1e-2,
    "smoothing": 2.0,
    "precision": "fp32",
}


def boards(count: int, seed: int) -> list[np.ndarray]:
    """A fixed arrangement of blocks with noise."""
    scene = np.random.default_rng(7).uniform(40, 210, (8, 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
    random = np.random.default_rng(seed)
    return [np.clip(scene + random.normal(0, 5, scene.shape), 0, 255).astype(np.uint8) for _ in range(count)]


@pytest.mark.parametrize("switch", [{}, {"local": ()}, {"scan": "sweep", "directions": 1}], ids=str)
def test_planted_defects_are_found_where_they_are(switch: dict[str, Any]) -> None:
    detector = MambaAD(**(SMALL | switch)).fit(boards(16, 1))
    planted = generate(boards(12, 3), 12, kinds=["missing piece", "stain"], seed=4)
    scores = detector.anomaly_score([*boards(12, 2), *planted.items])
    assert auroc([0] * 12 + [1] * 12, scores) > 0.9
    maps = list(detector.anomaly_map(planted.items))
    ranks = [
        auroc(mask.ravel().astype(int), found.ravel())
        for mask, found in zip(planted.masks, maps, strict=True)
    ]
    assert np.median(ranks) > 0.75


def test_score_is_the_peak_of_the_smoothed_map() -> None:
    detector = MambaAD(**SMALL).fit(boards(10, 1))
    items = boards(4, 2)
    peaks = [found.max() for found in detector.anomaly_map(items)]
    np.testing.assert_allclose(detector.anomaly_score(items), peaks, rtol=1e-4)


@pytest.mark.parametrize(("directions", "backwards"), [(1, 0), (2, 1), (4, 2), (8, 4)])
def test_half_of_the_directions_run_backwards(directions: int, backwards: int) -> None:
    block = ScanBlock(4, (4, 6), "hilbert", directions, 2)
    ways = block.order.numpy()
    assert ways.shape == (directions, 24)
    assert len(np.unique(ways, axis=0)) == directions
    turned = sum((ways == way[::-1]).all(axis=1).any() for way in ways)
    assert turned == 2 * backwards
    assert all((way[back] == np.arange(24)).all() for way, back in zip(ways, block.back.numpy(), strict=True))


def test_scan_reaches_every_cell_and_the_local_branches_their_neighbours() -> None:
    torch.manual_seed(0)
    scanned = ScanBlock(4, (6, 6), "hilbert", 2, 2)
    maps = torch.randn(1, 6, 6, 4, requires_grad=True)
    scanned(maps)[0, 0, 0].sum().backward()
    assert (maps.grad.abs().sum(-1) > 0).all()
    assert LocalityBlock(4, (6, 6), "sweep", 1, 2, 2, (5, 7))(torch.randn(2, 4, 6, 6)).shape == (2, 4, 6, 6)


def test_every_level_comes_back_in_its_shape() -> None:
    shapes = [(12, 10, 5), (6, 5, 7), (3, 3, 9)]
    decoder = Decoder(
        shapes, [8, 6, 4, 4], (1, 1, 0, 1), scan="hilbert", directions=4, state=2, cascade=2, local=(5,)
    )
    levels = [torch.randn(2, c, h, w) for h, w, c in shapes]
    assert [made.shape for made in decoder(levels)] == [level.shape for level in levels]


def test_depths_that_do_not_fit_the_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="depths"):
        MambaAD(**(SMALL | {"depths": (1, 1)})).fit(boards(6, 1))
