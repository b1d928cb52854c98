"""OneNIP restores what defects hide, finds planted ones under each switch, and prompts by product."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from offnominal.data import images  # noqa: E402
from offnominal.image.networks.onenip import (  # noqa: E402
    Prompted,
    PromptedReconstruction,
    Refiner,
    jittered,
    mask_loss,
)
from offnominal.image.onenip import OneNIP  # noqa: E402
from offnominal.metrics import auroc  # noqa: E402
from offnominal.synth import generate  # noqa: E402
from offnominal.synth.views import plant_in_view  # noqa: E402

SMALL: dict[str, Any] = {
    "image_size": 64,
    "levels": ("4", "10"),
    "grid": 8,
    "width": 16,
    "heads": 2,
    "depth": 1,
    "synthetic": 8,
    "steps": 40,
    "batch": 4,
    "learning_rate": 5e-3,
    "smoothing": 2.0,
    "precision": "fp32",
}


def boards(count: int, seed: int, product: int = 7) -> list[np.ndarray]:
    """A fixed arrangement of blocks with noise, another for each product."""
    scene = np.random.default_rng(product).uniform(40, 210, (8, 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
    random = np.random.default_rng(seed)
    return [np.clip(scene + random.normal(0, 5, scene.shape), 0, 255).astype(np.uint8) for _ in range(count)]


@pytest.mark.parametrize(
    "switch",
    [{}, {"prompted": False}, {"depth": 2, "bidirectional": False}, {"synthetic": 0}, {"refined": 0.0}],
    ids=str,
)
def test_planted_defects_are_found_where_they_are(switch: dict[str, Any]) -> None:
    detector = OneNIP(**(SMALL | switch)).fit(boards(16, 1))
    planted = generate(boards(12, 3), 12, kinds=["missing piece", "stain"], seed=4)
    scores = detector.anomaly_score([*boards(12, 2), *planted.items])
    assert auroc([0] * 12 + [1] * 12, scores) > 0.9
    maps = list(detector.anomaly_map(planted.items))
    ranks = [
        auroc(mask.ravel().astype(int), found.ravel())
        for mask, found in zip(planted.masks, maps, strict=True)
    ]
    assert np.median(ranks) > 0.75


def test_one_model_knows_two_products_and_their_defects() -> None:
    items = [*boards(12, 1, product=7), *boards(12, 1, product=8)]
    source = images(items, products=["a"] * 12 + ["b"] * 12)
    detector = OneNIP(**SMALL).fit(source)
    normal = [*boards(6, 2, product=7), *boards(6, 2, product=8)]
    planted = generate([*boards(6, 3, product=7), *boards(6, 3, product=8)], 12, kinds=["stain"], seed=4)
    scores = detector.anomaly_score([*normal, *planted.items])
    assert auroc([0] * 12 + [1] * 12, scores) > 0.9


def test_an_image_takes_the_prompt_that_resembles_it() -> None:
    class Echo(torch.nn.Module):
        def forward(self, image: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
            return prompt

    prompts = torch.stack([torch.full((2, 2, 3), level) for level in (0.0, 5.0)])
    model = Prompted(torch.nn.Identity(), Echo(), None, prompts, 0.5, 0.5)  # type: ignore[arg-type]
    near = torch.stack([torch.full((2, 2, 3), level) for level in (1.0, 4.0, 6.0)])
    np.testing.assert_allclose(model.error(near).numpy(), 1.0)
    scores, maps = model(near)
    np.testing.assert_allclose(scores.numpy(), 1.0, rtol=1e-6)
    assert maps.shape == (3, 8, 8)


@pytest.mark.parametrize(("prompted", "both"), [(True, True), (True, False), (False, True)])
def test_the_prompt_is_seen_only_where_asked_for(prompted: bool, both: bool) -> None:
    torch.manual_seed(0)
    network = PromptedReconstruction(5, (3, 4), 8, 2, 2, prompted=prompted, bidirectional=both)
    image, one, two = torch.randn(3, 1, 12, 5)
    changed = (network(image, one) - network(image, two)).detach().abs().max()
    assert (float(changed) > 1e-4) == prompted


def test_jitter_grows_with_the_feature() -> None:
    torch.manual_seed(0)
    features = torch.ones(2000, 4) * torch.tensor([1.0, 10.0]).repeat(1000)[:, None]
    noise = jittered(features, 0.5) - features
    assert float(noise[0::2].std()) == pytest.approx(0.5 * 2 / 4, rel=0.1)
    assert float(noise[1::2].std()) == pytest.approx(0.5 * 20 / 4, rel=0.1)
    assert torch.equal(jittered(features, 0.0), features)


def test_refiner_is_four_times_as_fine_and_its_loss_least_at_the_mask() -> None:
    assert Refiner(5, 8)(torch.rand(2, 3, 4, 5)).shape == (2, 12, 16)
    masks = torch.zeros(2, 8, 8)
    masks[:, 2:5, 3:6] = 1
    right, wrong = mask_loss(20 * (masks - 0.5), masks), mask_loss(20 * (0.5 - masks), masks)
    assert float(right) < 0.01
    assert float(wrong) > 2


def test_a_planted_defect_leaves_the_rest_as_it_was() -> None:
    view = np.stack(boards(1, 0))[0].astype(np.float32) + np.float32(0.3)
    item, mask = plant_in_view(view, "missing piece", 0.6, np.random.default_rng(0))
    assert mask.shape == (32, 32)
    changed = np.abs(item - view).max(axis=2)
    assert (changed[::2, ::2][mask > 0].mean()) > 10
    assert (changed == 0).mean() > 0.5
