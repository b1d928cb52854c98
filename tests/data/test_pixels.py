"""Model-size pixels: resizing that does not alias, three channels that lose none, one fixed range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offnominal.data import PixelRange, pixel_range, resize, resize_map, to_rgb


def triangle(length: int, target: int) -> np.ndarray:
    """Reference: the matrix of a bilinear filter that widens with the reduction."""
    scale = max(1.0, length / target)
    centres = (np.arange(target) + 0.5) * length / target
    weights = np.maximum(0, 1 - np.abs(np.arange(length)[None] + 0.5 - centres[:, None]) / scale)
    return weights / weights.sum(axis=1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 5)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
)
def test_resize_is_the_widening_triangle_filter(shape: tuple, size: tuple, dtype: str) -> None:
    image = (np.random.default_rng(0).random(shape) * (255 if dtype == "uint8" else 60000)).astype(dtype)
    before = image.copy()
    result = resize(image, size)
    wanted = np.einsum("yh,hwc,xw->yxc", triangle(shape[0], size[0]), image, triangle(shape[1], size[1]))
    assert result.shape == (*size, shape[2])
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_allclose(result, wanted, atol=1e-4 if dtype == "uint8" else 0.05, rtol=1e-5)
    np.testing.assert_array_equal(image, before)


def test_channels_do_not_mix_and_alpha_is_a_channel_like_any_other() -> None:
    image = np.zeros((8, 8, 4), np.uint8)
    image[..., 0] = 200
    np.testing.assert_allclose(resize(image, (3, 5)), np.broadcast_to([200, 0, 0, 0], (3, 5, 4)), rtol=1e-6)


def test_maps_grow_bilinearly_with_half_pixel_centres() -> None:
    ramp = np.arange(4, dtype=np.float32)[None].repeat(4, axis=0)
    wide = resize_map(ramp, (4, 16))
    np.testing.assert_allclose(wide[0], np.clip((np.arange(16) + 0.5) / 4 - 0.5, 0, 3), atol=1e-6)
    assert wide.dtype == np.float32


def test_one_two_three_and_more_channels() -> None:
    image = np.random.default_rng(1).integers(0, 256, (5, 6, 7), dtype=np.uint8)
    np.testing.assert_array_equal(to_rgb(image[..., :1]), np.repeat(image[..., :1], 3, axis=2))
    np.testing.assert_array_equal(to_rgb(image[..., :3]), image[..., :3])
    two = to_rgb(image[..., :2])
    np.testing.assert_array_equal(two[..., [0, 2]], image[..., :2])
    np.testing.assert_allclose(two[..., 1], image[..., :2].mean(axis=2), atol=0.51)
    seven = to_rgb(image)
    assert seven.dtype == np.uint8
    groups = [image[..., :3], image[..., 3:5], image[..., 5:]]
    np.testing.assert_allclose(seven, np.stack([g.mean(axis=2) for g in groups], axis=2), atol=0.51)


@pytest.mark.parametrize("channels", range(1, 12))
def test_no_channel_is_lost(channels: int) -> None:
    for channel in range(channels):
        image = np.zeros((2, 2, channels), np.float32)
        image[..., channel] = 1
        assert to_rgb(image).shape == (2, 2, 3)
        assert to_rgb(image).any()


@pytest.mark.parametrize(
    ("top", "high"), [(200, 255), (255, 255), (256, 1023), (1024, 4095), (9000, 16383), (16384, 65535)]
)
def test_the_depth_of_sixteen_bit_images_is_found(top: int, high: int) -> None:
    image = np.array([[[3], [top]]], np.uint16)
    chosen = pixel_range([image])
    assert chosen == PixelRange(0.0, high)
    np.testing.assert_allclose(chosen.apply(image).ravel(), np.array([3, top]) * 255 / high, rtol=1e-6)


def test_ranges_of_bytes_floats_and_mixtures() -> None:
    assert pixel_range([np.array([[[9]]], np.uint8)]) == PixelRange(0.0, 255.0)
    floats = pixel_range([np.array([[[-2.0]]], np.float32), np.array([[[3.0]]], np.float32)])
    assert floats == PixelRange(-2.5, 3.5)
    constant = pixel_range([np.full((2, 2, 1), 7, np.float32)])
    assert constant.low < 7 < constant.high
    applied = floats.apply(np.array([[[-99.0], [-2.0], [99.0]]], np.float32))
    assert applied.dtype == np.float32
    np.testing.assert_allclose(applied.ravel(), [0, 255 / 12, 255], rtol=1e-6)
    assert PixelRange.of({"uint8", "uint16"}, 0, 4000) == PixelRange(0.0, 4095.0)
