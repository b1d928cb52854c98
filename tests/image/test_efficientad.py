"""EfficientAD finds planted defects, with each of its parts left out too, and keeps the paper's rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from offnominal.core.errors import BadSource  # noqa: E402
from offnominal.image.efficientad import EfficientAD, _jittered  # noqa: E402
from offnominal.image.natural import NaturalImages  # noqa: E402
from offnominal.image.networks.efficientad import Branches, Fused, hardest  # noqa: E402
from offnominal.metrics import auroc  # noqa: E402
from offnominal.synth import generate  # noqa: E402

SMALL: dict[str, Any] = {
    "image_size": 64,
    "levels": ("4", "10"),
    "scale": 0.06,
    "outputs": 16,
    "distillation_steps": 8,
    "steps": 40,
    "learning_rate": 5e-3,
    "precision": "fp32",
}


def surfaces(count: int, seed: int) -> list[np.ndarray]:
    """A regular weave with noise, from slightly other places."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    weave = 120 + 40 * np.sin(x / 2.5) * np.sin(y / 3.5)
    return [
        np.clip(
            np.roll(weave, random.integers(-2, 3, 2), (0, 1))[..., None] + random.normal(0, 4, (64, 64, 3)),
            0,
            255,
        ).astype(np.uint8)
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    "without",
    [{}, {"autoencoder": False}, {"hard": 0.0}, {"penalty_images": None}, {"size": "M", "scale": 0.03}],
    ids=str,
)
def test_planted_defects_are_found_where_they_are(without: dict[str, Any]) -> None:
    detector = EfficientAD(**(SMALL | without)).fit(surfaces(16, 1))
    normal = surfaces(12, 2)
    planted = generate(surfaces(12, 3), 12, kinds=["missing piece", "stain"], seed=4)
    scores = detector.anomaly_score([*normal, *planted.items])
    assert auroc([0] * 12 + [1] * 12, scores) > 0.9
    maps = list(detector.anomaly_map(planted.items))
    ranks = [
        auroc(mask.ravel().astype(int), found.ravel())
        for mask, found in zip(planted.masks, maps, strict=True)
    ]
    assert np.median(ranks) > 0.75


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.9, 0.999])
def test_hard_features_are_those_at_or_above_the_quantile(quantile: float) -> None:
    errors = torch.rand(3, 8, 7, 7, generator=torch.Generator().manual_seed(0))
    values = np.sort(errors.numpy().ravel())
    wanted = values[int(quantile * len(values)) :].mean()
    assert float(hardest(errors, quantile)) == pytest.approx(float(wanted), rel=1e-5)


def test_maps_are_brought_to_one_scale_and_averaged() -> None:
    class Fixed(torch.nn.Module):
        def __init__(self, level: float, channels: int) -> None:
            super().__init__()
            self.level, self.channels = level, channels

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.full((len(images), self.channels, 4, 4), self.level)

    branches = Branches(Fixed(3.0, 2), Fixed(1.0, 4), Fixed(2.0, 2))  # squared distances 4 and 1
    scores, maps = Fused(branches, [4.0, 1.0])(torch.zeros(2, 48, 48, 3))
    assert maps.shape == (2, 12, 12)
    wanted = (0.1 * 4 / 4 + 0.1 * 1 / 1) / 2
    np.testing.assert_allclose(maps.numpy(), wanted, rtol=1e-5)
    np.testing.assert_allclose(scores.numpy(), wanted, rtol=1e-5)


def test_held_out_normals_lie_on_the_papers_scale() -> None:
    """From the 0.9 to the 0.995 quantile it is about a tenth, on normals of neither part too."""
    detector = EfficientAD(**SMALL).fit(surfaces(40, 1))
    pixels = np.stack(surfaces(40, 5)).astype(np.float32)
    _, maps = detector._network(pixels)
    low, high = np.quantile(maps, (0.9, 0.995))
    assert 0.03 < high - low < 0.3


def test_jitter_changes_one_property_by_a_fifth_at_most() -> None:
    pixels = np.stack(surfaces(1, 0)).astype(np.float32)
    random = np.random.default_rng(0)
    for _ in range(12):
        changed = _jittered(pixels, random)
        assert changed.dtype == np.float32
        assert 0 <= changed.min() <= changed.max() <= 255
        assert np.abs(changed - pixels).max() <= 0.2 * 255 + 1e-3


def test_natural_images_come_from_the_folder_given(tmp_path: Path) -> None:
    from PIL import Image

    with pytest.raises(BadSource):
        NaturalImages(tmp_path, 32)
    Image.fromarray(np.full((40, 60, 3), 77, np.uint8)).save(tmp_path / "a.png")
    np.testing.assert_allclose(NaturalImages(tmp_path, 32).draw(3, np.random.default_rng(0)), 77, rtol=1e-5)


def test_installed_photographs_are_drawn_by_the_generator_alone() -> None:
    one, two = (NaturalImages("photographs", 48).draw(4, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert one.shape == (4, 48, 48, 3)
    assert one.std() > 20
