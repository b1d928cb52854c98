"""The auto-encoders of the medical study: losses, sizes of the code, scores of the variational one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scenes import SIZE, boards, found_where_they_are

torch = pytest.importorskip("torch")

import offnominal as off  # noqa: E402
from offnominal.core.seeds import generator  # noqa: E402
from offnominal.image.networks import errors  # noqa: E402
from offnominal.image.networks.vae import SCORES, VariationalScores  # noqa: E402
from offnominal.metrics import auroc  # noqa: E402
from offnominal.nets.convolution import ConvDecoder, ConvEncoder  # noqa: E402
from offnominal.nets.vae import VAE, kl  # noqa: E402

SMALL: dict[str, Any] = {"image_size": SIZE, "width": 8, "steps": 150, "batch": 8, "rate": 3e-3}


@pytest.mark.parametrize("loss", ["l2", "l1", "ssim", "perceptual"])
def test_each_loss_finds_planted_defects_where_they_are(loss: str) -> None:
    steps = 150 if loss.startswith("l") else 60
    detector = off.make("ae", loss=loss, **(SMALL | {"steps": steps})).fit(boards(24))
    score, place = found_where_they_are(detector, ["missing piece", "stain"])
    assert score > 0.9
    assert place > 0.8


@pytest.mark.parametrize("score", [score for score in SCORES if score != "kl_gradient"])
def test_each_score_finds_planted_defects_where_they_are(score: str) -> None:
    detector = off.make("vae", score=score, **SMALL).fit(boards(24))
    found, place = found_where_they_are(detector, ["missing piece", "stain"])
    assert found > (0.6 if score == "combined" else 0.85)  # the gradient of the divergence tells little here
    assert place > (0.6 if "gradient" in score else 0.8)


def wavy(count: int, seed: int, *, spots: bool) -> list[np.ndarray]:
    """A wave of two numbers, its phase and height; what is off has bright spots."""
    images = []
    for number in range(count):
        random = generator(seed, "wavy", str(number))
        y, x = np.mgrid[:SIZE, :SIZE] / SIZE
        wave = 120 + random.uniform(20, 60) * np.sin(8 * x + random.uniform(0, 2 * np.pi))
        if spots:
            for cy, cx in random.uniform(0.1, 0.9, (3, 2)):
                wave = wave + 70 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 0.005)
        images.append(np.clip(np.repeat(wave[..., None], 3, axis=2), 0, 255).astype(np.uint8))
    return images


def test_small_code_is_the_best() -> None:
    """The study's finding: a code that has room gives back what is off, too."""
    found = {}
    for latent in (4, None):
        detector = off.make("ae", latent=latent, **(SMALL | {"steps": 200})).fit(wavy(60, 1, spots=False))
        scores = detector.anomaly_score([*wavy(20, 2, spots=False), *wavy(20, 3, spots=True)])
        found[latent] = scores[20:].mean() / scores[:20].mean(), auroc([0] * 20 + [1] * 20, scores)
    assert found[4][1] > 0.9
    assert found[4][1] >= found[None][1]


def test_errors_are_what_they_are_called() -> None:
    random = np.random.default_rng(0)
    one, two = (random.uniform(-1, 1, (2, 3, 16, 16)).astype(np.float32) for _ in range(2))
    pair = torch.from_numpy(one), torch.from_numpy(two)
    np.testing.assert_allclose(errors.Squared()(*pair), np.square(one - two).mean(1), rtol=1e-5)
    np.testing.assert_allclose(errors.Absolute()(*pair), np.abs(one - two).mean(1), rtol=1e-5)
    structural = errors.Structural()
    assert structural(*pair).shape == (2, 16, 16)
    np.testing.assert_allclose(structural(pair[0], pair[0]), 0, atol=1e-5)


def test_image_score_is_the_mean_error() -> None:
    detector = off.make("ae", **(SMALL | {"steps": 5})).fit(boards(6))
    score, grid = detector._network(np.stack(boards(3, 50)).astype(np.float32))
    np.testing.assert_allclose(score, grid.mean((1, 2)), rtol=1e-5)


@pytest.mark.parametrize(("name", "given"), [("ae", {"loss": "l3"}), ("vae", {"score": "likelihood"})])
def test_unknown_settings_are_refused(name: str, given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="must be"):
        off.make(name, **SMALL, **given).fit(boards(4))


def test_gradient_scores_equal_automatic_differentiation() -> None:
    torch.manual_seed(0)
    vae = VAE(ConvEncoder(3, (4, 6), (16, 16), latent=6), ConvDecoder(3, (4, 6), (16, 16), latent=3))
    vae(torch.randn(4, 3, 16, 16))
    vae.eval()
    images = torch.randn(2, 3, 16, 16, requires_grad=True)
    mean, log_variance = vae.encode(images)
    error = (images - vae.decoder(mean)).square().mean((1, 2, 3)).sum()
    wanted = [
        torch.autograd.grad(value, images, retain_graph=True)[0]
        for value in (error, kl(mean, log_variance).sum())
    ]
    _, by_error, by_divergence = VariationalScores(vae, 0.1, "combined").gradients(images)
    torch.testing.assert_close(by_error, wanted[0])
    torch.testing.assert_close(by_divergence, wanted[1])
