"""Pictures: colours that keep order for every eye, clear where nothing is wrong."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from offnominal.core.detections import Region
from offnominal.report import heat_map, overlay
from offnominal.report.overlay import levels, palette
from offnominal.report.picture import display, heat_uri, picture_uri, shrink


def luminance(colours):
    part = colours / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_lightness_rises_all_the_way():
    colours = palette()[:, :3].astype(float)
    assert (np.diff(luminance(colours)) > -1e-3).all()
    assert luminance(colours[-1:]) > 20 * luminance(colours[:1])


def test_low_is_clear_and_high_opaque_and_what_lies_beyond_is_cut_off():
    coloured = heat_map(np.array([[-9.0, 1.0, 3.0, 99.0, np.nan]]), 1.0, 3.0)
    assert coloured.shape == (1, 5, 4)
    assert coloured.dtype == np.uint8
    assert coloured[0, :, 3].tolist() == [0, 0, 255, 255, 0]
    assert (coloured[0, 2] == coloured[0, 3]).all()


def test_an_empty_scale_shows_only_what_is_above_it():
    assert levels(np.array([[1.0, 2.0, np.inf]]), 1.0, 1.0).tolist() == [[0, 255, 255]]


def test_overlay_mixes_by_opacity_and_leaves_normal_places_alone():
    image = np.full((8, 8), 100, dtype=np.uint8)
    heat = np.zeros((8, 8), dtype=np.float32)
    heat[2, 2] = 1.0
    plain = overlay(image, heat, low=0.0, high=1.0, opacity=0.0)
    assert (plain == 100).all()
    half = overlay(image, heat, low=0.0, high=1.0, opacity=0.5)
    assert half[0, 0].tolist() == [100, 100, 100]
    assert half[2, 2].tolist() == [round(100 + 0.5 * (int(top) - 100)) for top in palette()[-1, :3]]
    assert image.max() == 100


def test_overlay_enlarges_a_small_map_and_frames_boxes():
    image = np.full((40, 60, 3), 100, dtype=np.uint8)
    framed = overlay(image, np.zeros((4, 6), np.float32), regions=[Region("box", [20, 10, 30, 20], 1.0)])
    assert framed.shape == (40, 60, 3)
    assert (framed[9, 19:31] == 255).all()
    assert (framed[12:18, 22:28] == 100).all()
    at_edge = overlay(image, np.zeros((4, 6), np.float32), regions=[Region("box", [0, 0, 60, 40], 1.0)])
    assert (at_edge[20, 30] == 100).all()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.array([[0, 200]], np.uint8), [0, 200]),
        (np.array([[0, 65535]], np.uint16), [0, 255]),
        (np.array([[-1.0, 1.0]], np.float32), [0, 255]),
        (np.array([[np.nan, np.nan]]), [0, 0]),
        (np.array([[5.0, 5.0]]), [128, 128]),
        (np.array([[False, True]]), [0, 255]),
    ],
)
def test_any_pixel_type_is_brought_to_8_bits(image, expected):
    shown = display(image)
    assert shown.dtype == np.uint8
    assert shown[0, :, 0].tolist() == expected
    assert shown.shape == (1, 2, 3)


def test_what_is_not_an_image_is_refused():
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        display(np.zeros((2, 2, 2, 2)))
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        display(np.zeros((0, 5)))


def test_small_maps_keep_their_peaks():
    heat = np.zeros((997, 500), dtype=np.float32)
    heat[701, 333] = 7.0
    small = shrink(heat, 160)
    assert max(small.shape) == 160
    assert small.max() == 7.0
    y, x = np.unravel_index(small.argmax(), small.shape)
    assert abs(y / small.shape[0] - 701 / 997) < 0.01
    assert abs(x / small.shape[1] - 333 / 500) < 0.02


def decoded(uri):
    return Image.open(BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_an_embedded_map_shows_the_colours_of_the_palette():
    level = np.arange(256, dtype=np.uint8).reshape(16, 16)
    shown = np.array(decoded(heat_uri(level, palette())).convert("RGBA")).astype(int)
    exact = palette()[level].astype(int)
    assert shown[0, 0].tolist() == exact[0, 0].tolist()
    assert shown[-1, -1].tolist() == exact[-1, -1].tolist()
    assert np.abs(shown - exact).max() <= 16


@pytest.mark.parametrize("limit", [3_000, 40_000])
def test_embedded_pictures_hold_their_limit(limit):
    noise = np.random.default_rng(0).integers(0, 256, (600, 900, 3), dtype=np.uint8)
    uri = picture_uri(noise, 384, limit)
    assert len(base64.b64decode(uri.partition(",")[2])) <= limit
    width, height = decoded(uri).size
    assert width <= 384
    assert abs(width / height - 1.5) < 0.05
