from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from offnominal.nets.convolution import ConvDecoder, ConvEncoder  # noqa: E402
from offnominal.nets.perceptual import ContentLoss  # noqa: E402
from offnominal.nets.ssim import ssim  # noqa: E402
from offnominal.nets.vae import VAE, kl, sample  # noqa: E402


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
@pytest.mark.parametrize("latent", [None, 6])
def test_the_decoder_mirrors_the_encoder(norm: str, latent: int | None) -> None:
    encoder = ConvEncoder(3, (8, 16, 12), (32, 48), latent=latent, norm=norm, refine=1)
    decoder = ConvDecoder(2, (8, 16, 12), (32, 48), latent=latent, norm=norm, refine=1)
    images = torch.randn(2, 3, 32, 48)
    code = encoder(images)
    assert code.shape == ((2, 12, 4, 6) if latent is None else (2, 6))
    assert [tuple(m.shape[1:]) for m in encoder.features(images)] == [(8, 16, 24), (16, 8, 12), (12, 4, 6)]
    assert decoder(code).shape == (2, 2, 32, 48)


def test_skips_bring_what_the_code_has_lost() -> None:
    torch.manual_seed(0)
    encoder = ConvEncoder(1, (4, 8), (16, 16), latent=2).eval()
    decoder = ConvDecoder(1, (4, 8), (16, 16), latent=2, skips=True).eval()
    images = torch.randn(2, 1, 16, 16)
    code, features = encoder(images), encoder.features(images)
    whole = decoder(code, features)
    assert whole.shape == images.shape
    changed = [features[0] + 1, features[1]]
    assert not torch.allclose(decoder(code, changed), whole)
    with pytest.raises(ValueError, match="features"):
        decoder(code)


def test_sizes_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be halved 3 times"):
        ConvEncoder(3, (4, 4, 4), (36, 32))
    with pytest.raises(ValueError, match="norm must be"):
        ConvEncoder(3, (4,), (32, 32), norm="layer")


def test_kl_is_the_integral_over_draws() -> None:
    mean, log_variance = torch.tensor([[0.5, -1.0]]), torch.tensor([[0.3, -0.7]])
    centre = torch.tensor([1.0, 0.0])
    q = torch.distributions.Normal(mean, (log_variance / 2).exp())
    for target, given in ((torch.zeros(2), 0.0), (centre, centre)):
        p = torch.distributions.Normal(target, torch.ones(2))
        expected = torch.distributions.kl_divergence(q, p).sum(-1)
        torch.testing.assert_close(kl(mean, log_variance, given), expected)
    assert float(kl(torch.zeros(1, 3), torch.zeros(1, 3))) == 0


def test_drawn_codes_have_the_asked_mean_and_variance_and_pass_gradients() -> None:
    torch.manual_seed(0)
    mean = torch.tensor([[1.0, -2.0]]).expand(20000, -1).clone().requires_grad_()
    log_variance = torch.tensor([[0.0, 1.0]]).expand(20000, -1).clone().requires_grad_()
    codes = sample(mean, log_variance)
    torch.testing.assert_close(codes.mean(0), torch.tensor([1.0, -2.0]), atol=0.05, rtol=0)
    torch.testing.assert_close(codes.var(0), torch.tensor([1.0, np.e]).float(), atol=0.1, rtol=0)
    codes.square().sum().backward()
    assert mean.grad is not None
    assert log_variance.grad is not None


def test_vae_draws_in_training_and_takes_the_mean_after() -> None:
    torch.manual_seed(0)
    vae = VAE(ConvEncoder(1, (4,), (8, 8), latent=6, norm="none"), ConvDecoder(1, (4,), (8, 8), latent=3))
    images = torch.randn(4, 1, 8, 8)
    out, mean, log_variance = vae(images)
    assert out.shape == images.shape
    assert mean.shape == log_variance.shape == (4, 3)
    vae.eval()
    torch.testing.assert_close(vae(images)[0], vae(images)[0])
    torch.testing.assert_close(vae(images)[0], vae.decoder(vae.encode(images)[0]))


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_equals_an_independent_implementation(channels: int) -> None:
    from skimage.metrics import structural_similarity

    random = np.random.default_rng(0)
    first = random.random((2, channels, 24, 30))
    second = np.clip(first + random.normal(0, 0.2, first.shape), 0, 1)
    found = ssim(torch.from_numpy(first), torch.from_numpy(second)).mean((1, 2, 3))
    for i in range(2):
        expected = structural_similarity(
            first[i],
            second[i],
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
        )
        assert float(found[i]) == pytest.approx(expected, abs=1e-7)


def test_ssim_knows_equality_and_its_bounds() -> None:
    x = torch.rand(1, 1, 16, 16, requires_grad=True)
    torch.testing.assert_close(ssim(x, x), torch.ones(1, 1, 6, 6))
    (1 - ssim(x, torch.rand(1, 1, 16, 16)).mean()).backward()
    assert x.grad is not None
    with pytest.raises(ValueError, match="window"):
        ssim(torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8))


class _Features(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        first = self.norm(self.conv(images))
        return [first, torch.nn.functional.avg_pool2d(first, 2)]


def test_content_loss_compares_features_and_leaves_the_encoder_alone() -> None:
    encoder = _Features()
    loss = ContentLoss(encoder, weights=(1.0, 2.0)).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    x, y = torch.randn(2, 1, 10, 10, requires_grad=True), torch.randn(2, 1, 10, 10)
    value = loss(x, y)
    with torch.no_grad():
        pairs = list(zip(encoder(x), encoder(y), strict=True))
        expected = sum(w * ((a - b) ** 2).mean() for w, (a, b) in zip((1.0, 2.0), pairs, strict=True))
    torch.testing.assert_close(value.detach(), expected)
    assert [tuple(m.shape) for m in loss.maps(x, y)] == [(2, 8, 8), (2, 4, 4)]
    value.backward()
    assert x.grad is not None
    assert all(p.grad is None for p in encoder.parameters())
    assert all(torch.equal(before[name], now) for name, now in encoder.state_dict().items())
