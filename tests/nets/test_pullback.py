"""Gradients by layers run backwards are those of automatic differentiation."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from offnominal.nets.convolution import ConvDecoder, ConvEncoder  # noqa: E402
from offnominal.nets.pullback import pullback  # noqa: E402


@pytest.mark.parametrize("refine", [0, 1])
def test_gradient_equals_automatic_differentiation(refine: int) -> None:
    torch.manual_seed(0)
    encoder = ConvEncoder(3, (4, 6), (16, 8), latent=5, refine=refine)
    decoder = ConvDecoder(3, (4, 6), (16, 8), latent=5, refine=refine)
    for _ in range(3):  # batch statistics of their own
        decoder(encoder(torch.randn(8, 3, 16, 8)))
    whole = torch.nn.Sequential(
        *encoder.levels, encoder.head, torch.nn.Identity(), decoder.head, *decoder.levels, decoder.last
    ).eval()
    images = torch.randn(2, 3, 16, 8, requires_grad=True)
    outputs, back = pullback(whole, images)
    wanted = torch.randn_like(outputs)
    (expected,) = torch.autograd.grad((whole(images) * wanted).sum(), images)
    torch.testing.assert_close(outputs, whole(images))
    torch.testing.assert_close(back(wanted), expected)


def test_layers_without_a_derivative_are_refused() -> None:
    with pytest.raises(TypeError, match="Tanh"):
        pullback(torch.nn.Sequential(torch.nn.Tanh()), torch.zeros(1, 2))
