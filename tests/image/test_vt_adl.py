"""VT-ADL finds planted defects by reconstruction, and where they are by density."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scenes import SIZE, boards, found_where_they_are

torch = pytest.importorskip("torch")

import offnominal as off  # noqa: E402
from offnominal.image.networks.vt_adl import PatchDensity  # noqa: E402

SMALL: dict[str, Any] = {
    "image_size": SIZE,
    "patch": 8,
    "width": 32,
    "depth": 2,
    "heads": 2,
    "components": 4,
    "channels": 8,
    "steps": 150,
    "batch": 8,
    "rate": 3e-3,
    "smoothing": 2.0,
}


@pytest.mark.parametrize("score", ["reconstruction", "density"])
def test_planted_defects_are_found_where_they_are(score: str) -> None:
    detector = off.make("vt_adl", score=score, **SMALL).fit(boards(24))
    found, place = found_where_they_are(detector, ["missing piece", "stain"])
    assert found > 0.85
    assert place > 0.8


def network() -> PatchDensity:
    torch.manual_seed(0)
    return PatchDensity(16, 4, 8, 1, 2, 3, 4, 0.1).eval()


def test_surprise_is_the_true_mixture() -> None:
    model = network()
    embedded = torch.randn(2, 16, 8)
    log_weights, means, deviations = model.density(embedded)
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=log_weights),
        torch.distributions.Independent(torch.distributions.Normal(means, deviations), 1),
    )
    torch.testing.assert_close(model.surprise(embedded), -mixture.log_prob(embedded) / 8)


def test_density_does_not_move_the_embeddings() -> None:
    model = network().train()
    pixels = torch.rand(4, 16, 16, 3) * 255
    grads = []
    for _ in range(2):
        model.zero_grad()
        torch.manual_seed(1)
        model.loss(pixels).backward()
        grads.append(model.into.weight.grad.clone())
        with torch.no_grad():
            model.density.means.bias += 3.0
    torch.testing.assert_close(grads[0], grads[1])


def test_patches_keep_their_place() -> None:
    """Embeddings and their map are laid out row by row, as the image is."""
    model = network()
    images = torch.zeros(1, 3, 16, 16)
    changed = images.clone()
    changed[:, :, 4:8, 12:] = 1.0
    apart = (model.into(changed) - model.into(images)).abs().sum(1)
    assert np.unravel_index(int(apart.argmax()), (4, 4)) == (1, 3)


@pytest.mark.parametrize("given", [{"patch": 12}, {"patch": 48}, {"score": "both"}], ids=str)
def test_settings_that_do_not_fit_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        off.make("vt_adl", **(SMALL | given)).fit(boards(4))
