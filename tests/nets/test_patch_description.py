"""The networks that describe patches see what they say, and nothing more."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from offnominal.nets.patch_description import (  # noqa: E402
    FIELD,
    STRIDE,
    GlobalAutoEncoder,
    cells,
    patch_description,
)


@pytest.mark.parametrize("size", ["S", "M"])
@pytest.mark.parametrize("side", [48, 64, 100])
def test_a_cell_sees_its_square_of_pixels_and_no_other(size: str, side: int) -> None:
    torch.manual_seed(0)
    network = patch_description(size, 6, 0.04)
    for layer in network:
        if isinstance(layer, torch.nn.Conv2d):  # all positive, so that no unit is off and nothing cancels
            layer.weight.data.abs_()
            layer.bias.data.fill_(0.1)
    images = torch.rand(1, 3, side, side, requires_grad=True)
    described = network(images)
    assert described.shape == (1, 6, cells(side), cells(side))
    row, column = cells(side) - 1, cells(side) // 2
    described[0, :, row, column].sum().backward()
    seen = images.grad[0].abs().sum(0) > 0
    expected = torch.zeros(side, side, dtype=torch.bool)
    expected[STRIDE * row : STRIDE * row + FIELD, STRIDE * column : STRIDE * column + FIELD] = True
    assert torch.equal(seen, expected)


def test_small_has_four_convolutions_and_medium_six() -> None:
    counts = {
        size: sum(isinstance(layer, torch.nn.Conv2d) for layer in patch_description(size, 384))
        for size in ("S", "M")
    }
    assert counts == {"S": 4, "M": 6}
    assert sum(p.numel() for p in patch_description("S", 384).parameters()) == pytest.approx(2.7e6, rel=0.02)


@pytest.mark.parametrize("side", [48, 64, 100, 256])
def test_auto_encoder_gives_the_same_grid_through_its_code(side: int) -> None:
    network = GlobalAutoEncoder(side, 6, 0.1, code=5).eval()
    assert network.encode(torch.rand(2, 3, side, side)).shape == (2, 5, 1, 1)
    assert network(torch.rand(2, 3, side, side)).shape == (2, 6, cells(side), cells(side))


@pytest.mark.parametrize("side", [44, 63, 130])
def test_other_sides_are_refused(side: int) -> None:
    with pytest.raises(ValueError, match=str(side)):
        cells(side)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="'L'"):
        patch_description("L", 8)
