"""Methods that fine-tune an encoder by contrast: their losses, and what they find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import offnominal as off  # noqa: E402
from offnominal.core.seeds import generator  # noqa: E402
from offnominal.image.networks.augmentation import RandomViews  # noqa: E402
from offnominal.image.networks.mean_shifted import contrast, mean_shifted, unit  # noqa: E402
from offnominal.image.networks.unicon_ha import gathered, soft_weights, spread, turned  # noqa: E402
from offnominal.metrics import auroc  # noqa: E402

SIZE = 64
SMALL: dict[str, dict[str, Any]] = {
    "mean_shifted": {"levels": ("14",), "frozen": "6", "steps": 6, "batch": 6, "rate": 3e-4},
    "unicon_ha": {"levels": ("3", "6", "14"), "steps": 4, "batch": 3},
}


def arrows(count: int, first: int = 0) -> list[np.ndarray]:
    """A thing with an upright pose: a dark arrow on a bright, noisy ground."""
    found = []
    y, x = np.mgrid[:SIZE, :SIZE]
    for number in range(first, first + count):
        random = generator(17, "arrows", str(number))
        cy, cx = 32 + random.integers(-4, 5, 2)
        head = (np.abs(x - cx) < (y - cy + 18) * 0.8) & (y < cy) & (y > cy - 18)
        shaft = (np.abs(x - cx) < 4) & (y >= cy) & (y < cy + 18)
        picture = np.where(head | shaft, 60, 180)[..., None] + random.normal(0, 6, (SIZE, SIZE, 3))
        found.append(np.clip(picture, 0, 255).astype(np.uint8))
    return found


def rings(count: int) -> list[np.ndarray]:
    """Another thing in the same colours."""
    found = []
    y, x = np.mgrid[:SIZE, :SIZE]
    for number in range(count):
        random = generator(17, "rings", str(number))
        cy, cx = 32 + random.integers(-4, 5, 2)
        away = np.hypot(y - cy, x - cx)
        picture = np.where((away < 18) & (away > 11), 60, 180)[..., None] + random.normal(
            0, 6, (SIZE, SIZE, 3)
        )
        found.append(np.clip(picture, 0, 255).astype(np.uint8))
    return found


def small(name: str, **parameters: Any) -> Any:
    return off.make(name, "image", **{"image_size": SIZE, "seed": 1, **SMALL[name], **parameters})


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("mean_shifted", {}),
        ("mean_shifted", {"shifted": False}),
        ("mean_shifted", {"angular": 0.0, "frozen": None}),
        ("unicon_ha", {}),
        ("unicon_ha", {"soft": False}),
        ("unicon_ha", {"hierarchical": False}),
        ("unicon_ha", {"outliers": False, "frozen": "6"}),
    ],
    ids=str,
)
def test_things_of_another_kind_are_found(name: str, without: dict[str, Any]) -> None:
    detector = small(name, **without).fit(arrows(14))
    scores = detector.anomaly_score([*arrows(10, 50), *rings(10)])
    assert auroc([0] * 10 + [1] * 10, scores) > 0.95


@pytest.mark.slow
def test_unicon_ha_moves_rotations_away() -> None:
    """What it is trained for: the distance of a rotated thing grows against that of an upright one."""
    normal, fresh = arrows(14), arrows(8, 60)
    tilted = [np.rot90(item).copy() for item in fresh]
    ratios = []
    for steps, rate in ((1, 1e-9), (12, 5e-2)):
        detector = small("unicon_ha", steps=steps, rate=rate, batch=4).fit(normal)
        upright, turned_ = detector.anomaly_score(fresh), detector.anomaly_score(tilted)
        ratios.append(np.median(turned_) / np.median(upright))
    assert ratios[1] > 1.1 * ratios[0]


def test_mean_shifted_draws_normals_together() -> None:
    normal, test = arrows(14), [*arrows(8, 60), *rings(8)]
    spreads = []
    for steps, rate in ((1, 1e-9), (20, 1e-3)):
        scores = small("mean_shifted", steps=steps, rate=rate, batch=6).fit(normal).anomaly_score(test)
        spreads.append(np.median(scores[:8]))
    assert spreads[1] < 0.95 * spreads[0]


@pytest.mark.parametrize("name", list(SMALL))
def test_frozen_layers_stay_and_others_move(name: str) -> None:
    from offnominal.encoders.image import network

    detector = small(name)
    module = detector.features.module() if name == "mean_shifted" else detector._up_to("14").module()
    moved = detector.set_params(frozen="10")._freeze(module)
    early = {node.out.replace(".", "_") for node in network("efficientnet_lite2").nodes}
    frozen = [
        key for key, layer in module.layers.items() if not any(p.requires_grad for p in layer.parameters())
    ]
    assert {key for key in frozen if key != "image"} <= early
    assert "block10_project" in frozen
    assert "block11_project" not in frozen
    assert len(moved) == sum(p.requires_grad for p in module.parameters()) > 0
    with pytest.raises(ValueError, match="no level"):
        detector.set_params(frozen="layer2")._freeze(module)
    with pytest.raises(ValueError, match="left to train"):
        detector.set_params(frozen="14")._freeze(module)


def test_bank_is_bounded(tmp_path: Path) -> None:
    detector = small("mean_shifted", bank_size=5, steps=1).fit(arrows(12))
    assert np.isfinite(detector.anomaly_score(arrows(3, 70))).all()
    whole = small("mean_shifted", steps=1).fit(arrows(12))
    fewer = len(whole.network_) - len(detector.network_)
    assert fewer % ((10 - 5) * 120 * 4) == 0, "of 12 images two are held out for the decision"
    assert fewer > 0


# -------------------------------------------------------------------------------- losses, by plain loops


def vectors(count: int, seed: int = 0) -> torch.Tensor:
    return unit(torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)).double())


def test_contrast_is_the_plain_loop() -> None:
    rows, t = vectors(10), 0.25
    total = 0.0
    for i in range(10):
        partner = (i + 5) % 10
        others = [j for j in range(10) if j != i]
        likeness = {j: float(rows[i] @ rows[j]) / t for j in others}
        total -= likeness[partner] - np.log(sum(np.exp(value) for value in likeness.values()))
    assert float(contrast(rows, t)) == pytest.approx(total / 10, rel=1e-6)


def test_mean_shifted_contrast_is_about_the_centre() -> None:
    rows, centre = vectors(8), vectors(1, 5)[0]
    about, near = mean_shifted(rows, centre, 0.25)
    shifted = torch.stack([(row - centre) / (row - centre).norm() for row in rows])
    assert float(about) == pytest.approx(float(contrast(shifted, 0.25)), rel=1e-9)
    assert float(near) == pytest.approx(2 * float((1 - rows @ centre).mean()), rel=1e-9)


def test_gathered_and_spread_are_the_plain_loops() -> None:
    inside, outside, weights, t = vectors(5, 1), vectors(6, 2), torch.rand(5).double(), 0.5
    total = norm = 0.0
    for i in range(5):
        everything = [*[inside[j] for j in range(5) if j != i], *outside]
        below = np.log(sum(np.exp(float(inside[i] @ other) / t) for other in everything))
        for p in range(5):
            if p != i:
                weight = float(weights[i] * weights[p])
                total -= weight * (float(inside[i] @ inside[p]) / t - below)
                norm += weight
    assert float(gathered(inside, outside, weights, t)) == pytest.approx(total / norm, rel=1e-6)
    total = 0.0
    for i in range(6):
        everything = [*[outside[j] for j in range(6) if j != i], *inside]
        below = np.log(sum(np.exp(float(outside[i] @ other) / t) for other in everything))
        total -= float(outside[i] @ outside[(i + 3) % 6]) / t - below
    assert float(spread(outside, inside, t)) == pytest.approx(total / 6, rel=1e-6)


def test_soft_weights_fall_with_the_distance_to_the_mean() -> None:
    rows = torch.cat([unit(vectors(1) + 0.05 * vectors(8, 3)), -vectors(1)])
    weights = soft_weights(rows)
    assert float(weights.max()) == 1
    assert int(weights.argmin()) == 8
    assert float(weights[:8].min()) > 0.9


def test_turned_images_are_three_rotations() -> None:
    pixels = torch.rand(2, 8, 8, 3)
    found = turned(pixels)
    for quarter in (1, 2, 3):
        np.testing.assert_array_equal(
            found[2 * (quarter - 1) + 1].numpy(), np.rot90(pixels[1].numpy(), quarter)
        )


# -------------------------------------------------------------------------------- augmentation


def test_views_stay_images_and_differ() -> None:
    pixels = torch.from_numpy(np.stack(arrows(6))).float()
    torch.manual_seed(0)
    found = RandomViews()(pixels)
    assert found.shape == pixels.shape
    assert 0 <= float(found.min()) <= float(found.max()) <= 255
    apart = (found - RandomViews()(pixels)).abs().mean((1, 2, 3))
    assert (apart > 1).all()


def test_nothing_changes_where_nothing_may_but_the_mirror() -> None:
    pixels = torch.from_numpy(np.stack(arrows(16))).float()
    torch.manual_seed(0)
    found = RandomViews(least=1.0, colour=0.0, grey=0.0, blur=0.0)(pixels)
    same = (found - pixels).abs().amax((1, 2, 3)) < 1e-2
    mirrored = (found.flip(2) - pixels).abs().amax((1, 2, 3)) < 1e-2
    assert (same | mirrored).all()
    assert same.any()
    assert mirrored.any()


def test_blur_and_grey_do_what_they_say() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (5, 32, 32, 3))).float()
    torch.manual_seed(0)
    grey = RandomViews(1.0, 0.0, 1.0, 0.0)(pixels)
    assert float((grey.amax(3) - grey.amin(3)).max()) < 1e-2
    blurred = RandomViews(1.0, 0.0, 0.0, 1.0)(pixels)
    assert float(blurred.std()) < float(pixels.std())
    torch.testing.assert_close(blurred.mean((1, 2)), pixels.mean((1, 2)), rtol=0.1, atol=0)
