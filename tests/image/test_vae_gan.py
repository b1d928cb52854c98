"""The VAE-GAN finds planted defects, with each of its losses left out too."""

from __future__ import annotations

from typing import Any

import pytest
from scenes import SIZE, boards, found_where_they_are

torch = pytest.importorskip("torch")

import offnominal as off  # noqa: E402
from offnominal.image.networks.vae_gan import AdversarialVAE  # noqa: E402

SMALL: dict[str, Any] = {
    "image_size": SIZE,
    "latent": 16,
    "width": 8,
    "steps": 60,
    "batch": 8,
    "rate": 3e-3,
}


@pytest.mark.parametrize("without", [{}, {"likeness": 0.0}, {"adversarial": 0.0, "likeness": 0.0}], ids=str)
def test_planted_defects_are_found_where_they_are(without: dict[str, Any]) -> None:
    detector = off.make("vae_gan", **(SMALL | without)).fit(boards(24))
    score, place = found_where_they_are(detector, ["missing piece", "stain"])
    assert score > 0.9
    assert place > 0.8


def network(**weights: float) -> AdversarialVAE:
    torch.manual_seed(0)
    return AdversarialVAE((4, 8), 16, 3, **{"beta": 1e-3, "likeness": 0.1, "adversarial": 0.1, **weights})


def test_no_gradient_of_the_adversary_reaches_the_encoder() -> None:
    """Its verdict moves the decoder only (Larsen et al., section 3.3)."""
    pixels = torch.rand(4, 16, 16, 3) * 255
    found = []
    for weight in (0.0, 5.0):
        model = network(adversarial=weight).train()
        torch.manual_seed(1)
        model.loss(pixels).backward()
        found.append(
            [[p.grad.clone() for p in part.parameters()] for part in (model.vae.encoder, model.vae.decoder)]
        )
    for one, two in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
    assert any(not torch.allclose(one, two) for one, two in zip(found[0][1], found[1][1], strict=True))


def test_adversary_learns_to_tell_real_from_made() -> None:
    model = network()
    pixels = torch.rand(8, 16, 16, 3) * 255
    optimiser = torch.optim.Adam(model.adversary.parameters(), 1e-2)
    first = model.adversary_loss(pixels).item()
    for _ in range(20):
        optimiser.zero_grad()
        model.adversary_loss(pixels).backward()
        optimiser.step()
    assert model.adversary_loss(pixels).item() < 0.5 * first
