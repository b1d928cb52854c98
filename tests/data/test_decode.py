"""Every format gives the pixels that were written, whatever the depth, the channels and the orientation."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from offnominal.core.errors import BadItem
from offnominal.data import decode, decode_jpeg, images, prefetch
from offnominal.data.decode_pillow import flatten_alpha

RANDOM = np.random.default_rng(7)
GREY = RANDOM.integers(0, 256, (13, 17), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (13, 17, 3), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, (13, 17), dtype=np.uint16)


def opened(path: Path) -> Image.Image:
    """The reference: Pillow, with the file closed again."""
    return Image.open(io.BytesIO(path.read_bytes()))


def smooth(height: int = 40, width: int = 56, channels: int = 3) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [127 + 100 * np.sin(x / (5 + c)) * np.cos(y / (7 - c)) for c in range(channels)]
    return np.stack(waves, axis=2).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
@pytest.mark.parametrize("image", [GREY, COLOUR], ids=["grey", "colour"])
def test_lossless_formats_return_what_was_written(tmp_path: Path, suffix: str, image: np.ndarray) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(image).save(path, **({"lossless": True} if suffix == "webp" else {}))
    read = decode(path)
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    wanted = image if image.ndim == 3 else image[..., None]
    if suffix == "webp" and image.ndim == 2:  # WebP knows no grey
        wanted = np.repeat(wanted, 3, axis=2)
    np.testing.assert_array_equal(read, wanted)


@pytest.mark.parametrize("fast", [True, False], ids=["simplejpeg", "pillow"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_agrees_with_pillow_within_one_level(
    tmp_path: Path, fast: bool, options: dict, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fast:
        pytest.importorskip("simplejpeg")
    else:
        monkeypatch.setattr(decode_jpeg, "_fast", lambda data, header: None)
    path = tmp_path / "x.jpg"
    Image.fromarray(smooth(channels=channels).squeeze()).save(path, **options)
    wanted = np.asarray(opened(path)).reshape(40, 56, channels)
    assert np.abs(decode(path).astype(int) - wanted).max() <= 1


def test_rgb_jpeg_with_adobe_marker_keeps_its_colours(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.fromarray(smooth()).save(path, keep_rgb=True, quality=95)
    np.testing.assert_array_equal(decode(path), np.asarray(opened(path).convert("RGB")))


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_becomes_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(smooth()).convert("CMYK").save(path)
    wanted = np.asarray(opened(path).convert("RGB")).astype(int)
    read = decode(path)
    assert read.shape == (40, 56, 3)
    assert np.abs(read.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_keeps_every_level(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(DEEP).save(path)
    read = decode(path)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read[..., 0], DEEP)


def test_palette_and_one_bit(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).quantize(16).save(tmp_path / "p.png")
    np.testing.assert_array_equal(
        decode(tmp_path / "p.png"), np.asarray(opened(tmp_path / "p.png").convert("RGB"))
    )
    for suffix in ("png", "tif"):
        path = tmp_path / f"bits.{suffix}"
        Image.fromarray(GREY > 127).save(path)
        np.testing.assert_array_equal(decode(path)[..., 0], np.where(GREY > 127, 255, 0))


def test_tiff_palette(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).quantize(16).save(tmp_path / "p.tif")
    np.testing.assert_array_equal(
        decode(tmp_path / "p.tif"), np.asarray(opened(tmp_path / "p.tif").convert("RGB"))
    )


def test_single_frame_gif_is_an_image(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "x.gif")
    wanted = np.asarray(opened(tmp_path / "x.gif").convert("RGB"))
    read = decode(tmp_path / "x.gif")
    np.testing.assert_array_equal(np.broadcast_to(read, wanted.shape), wanted)


def test_alpha_is_dropped_when_opaque_and_else_put_over_mid_grey(tmp_path: Path) -> None:
    opaque = np.dstack([COLOUR, np.full((13, 17), 255, np.uint8)])
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(decode(tmp_path / "opaque.png"), COLOUR)
    clear = opaque.copy()
    clear[:5, :, 3] = 0
    clear[5:8, :, 3] = 128
    for suffix in ("png", "tif"):
        Image.fromarray(clear).save(tmp_path / f"clear.{suffix}")
        read = decode(tmp_path / f"clear.{suffix}")
        assert (read[:5] == 128).all()
        np.testing.assert_array_equal(read[8:], COLOUR[8:])
        mixed = COLOUR[5:8] * (128 / 255) + 128 * (127 / 255)
        np.testing.assert_allclose(read[5:8], mixed, atol=0.51)
    grey = np.dstack([GREY, clear[..., 3]])
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert decode(tmp_path / "grey.png").shape == (13, 17, 1)


def test_alpha_of_sixteen_bits() -> None:
    image = np.dstack([DEEP, np.where(DEEP > 30000, 65535, 0).astype(np.uint16)])
    flat = flatten_alpha(image)
    np.testing.assert_array_equal(flat[..., 0], np.where(DEEP > 30000, DEEP, 32768))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", ">u2", ">f4"])
@pytest.mark.parametrize("channels", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("packing", [None, "zlib"])
def test_tiff_of_any_depth_and_channels(
    tmp_path: Path, dtype: str, channels: int, planar: str, packing: str | None
) -> None:
    image = (RANDOM.random((11, 9, channels)) * 250).astype(dtype)
    path = tmp_path / "x.tif"
    if channels == 1:
        data, options = image[..., 0], {}
    else:
        data = np.moveaxis(image, -1, 0) if planar == "separate" else image
        options = {"planarconfig": planar, "extrasamples": [0] * (channels - 1)}
    tifffile.imwrite(
        path,
        data,
        photometric="minisblack",
        compression=packing,
        byteorder=">" if dtype[0] == ">" else "<",
        **options,
    )
    read = decode(path)
    assert read.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(read, image)


def test_tiled_and_lzw_and_float64_and_signed_tiff(tmp_path: Path) -> None:
    large = RANDOM.integers(0, 256, (50, 70, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "tiled.tif", large, tile=(16, 16), photometric="rgb")
    np.testing.assert_array_equal(decode(tmp_path / "tiled.tif"), large)
    Image.fromarray(large).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(decode(tmp_path / "lzw.tif"), large)
    Image.fromarray(DEEP).save(tmp_path / "lzw16.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(decode(tmp_path / "lzw16.tif")[..., 0], DEEP)
    tifffile.imwrite(tmp_path / "f8.tif", np.linspace(-1, 1, 12).reshape(3, 4))
    assert decode(tmp_path / "f8.tif").dtype == np.float32
    tifffile.imwrite(tmp_path / "i2.tif", np.arange(-6, 6, dtype=np.int16).reshape(3, 4))
    np.testing.assert_array_equal(decode(tmp_path / "i2.tif").ravel(), np.arange(-6, 6))


def test_white_is_zero_tiff_is_turned_round(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", GREY, photometric="miniswhite")
    np.testing.assert_array_equal(decode(tmp_path / "x.tif")[..., 0], 255 - GREY)


def test_reduced_copy_beside_the_page_is_passed_over(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        file.write(COLOUR, photometric="rgb")
        file.write(COLOUR[::2, ::2], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(decode(tmp_path / "x.tif"), COLOUR)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "lzw.tif"])
def test_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"x.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    if suffix == "lzw.tif":
        options = {"compression": "tiff_lzw"}
    Image.fromarray(smooth()).save(path, exif=exif, **options)
    wanted = np.asarray(ImageOps.exif_transpose(opened(path)))
    read = decode(path)
    assert read.shape == wanted.shape
    assert np.abs(read.astype(int) - wanted).max() <= 1


def deep_png(image: np.ndarray, filters: np.ndarray, transparent: bytes | None = None) -> bytes:
    """A 16-bit PNG written straight from the standard, one given filter a row."""
    height, width, channels = image.shape
    step = 2 * channels
    plain = image.astype(">u2").view(np.uint8).reshape(height, width * step).astype(int)
    lines = []
    for y in range(height):
        line = bytearray([int(filters[y])])
        for x in range(width * step):
            left = plain[y, x - step] if x >= step else 0
            up = plain[y - 1, x] if y else 0
            corner = plain[y - 1, x - step] if y and x >= step else 0
            p = left + up - corner
            nearest = min((left, up, corner), key=lambda v: abs(p - v))
            guess = (0, left, up, (left + up) // 2, nearest)[filters[y]]
            line.append((plain[y, x] - guess) % 256)
        lines.append(bytes(line))
    colour = {2: 4, 3: 2, 4: 6}[channels]

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    parts = [
        b"\x89PNG\r\n\x1a\n",
        chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)),
    ]
    if transparent is not None:
        parts.append(chunk(b"tRNS", transparent))
    packed = zlib.compress(b"".join(lines))
    parts += [chunk(b"IDAT", packed[:40]), chunk(b"IDAT", packed[40:]), chunk(b"IEND", b"")]
    return b"".join(parts)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 999),
    kinds=st.sampled_from(["all", "sums"]),
)
def test_sixteen_bit_colour_png_keeps_every_level(height: int, width: int, seed: int, kinds: str) -> None:
    random = np.random.default_rng(seed)
    image = random.integers(0, 65536, (height, width, 3), dtype=np.uint16)
    data = deep_png(image, random.integers(0, 5 if kinds == "all" else 3, height))
    high = np.asarray(Image.open(io.BytesIO(data)))  # Pillow keeps the high byte: it vouches for the file
    np.testing.assert_array_equal(high, image >> 8)
    from offnominal.data.decode_png import read
    from offnominal.data.limits import Limits

    np.testing.assert_array_equal(read(data, Limits()), image)


def test_sixteen_bit_colour_png_in_several_bands_and_with_alpha(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offnominal.data import png16

    monkeypatch.setattr(png16, "_BAND", 3)
    image = RANDOM.integers(0, 65536, (11, 5, 4), dtype=np.uint16)
    image[..., 3] = 65535
    (tmp_path / "x.png").write_bytes(deep_png(image, np.arange(11) % 5))
    np.testing.assert_array_equal(decode(tmp_path / "x.png"), image[..., :3])
    colour = image[..., :3].copy()
    colour[2, 2] = (1, 2, 3)
    (tmp_path / "k.png").write_bytes(deep_png(colour, np.arange(11) % 5, struct.pack(">HHH", 1, 2, 3)))
    read = decode(tmp_path / "k.png")
    assert (read[2, 2] == 32768).all()
    read[2, 2] = (1, 2, 3)
    np.testing.assert_array_equal(read, colour)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_bytes_never_crash(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    kind = data.draw(st.sampled_from(["png", "jpg", "webp", "bmp", "gif", "tif", "deep"]))
    buffer = io.BytesIO()
    if kind == "deep":
        buffer.write(deep_png(COLOUR[:4, :4].astype(np.uint16) * 257, np.array([0, 1, 4, 3])))
    elif kind == "tif":
        tifffile.imwrite(buffer, COLOUR, photometric="rgb", compression="zlib")
    else:
        Image.fromarray(COLOUR).save(buffer, {"jpg": "JPEG"}.get(kind, kind))
    raw = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(1, len(raw)))]
    path = tmp_path_factory.mktemp("hostile") / "x.bin"
    path.write_bytes(raw)
    found = next(iter(prefetch(images(path), [0], workers=1)))[1]
    if isinstance(found, BadItem):
        assert str(found).startswith("x.bin: ")
        assert "\n" not in str(found)
    else:
        assert found.value.ndim == 3
        assert found.value.dtype in (np.uint8, np.uint16, np.float32)


@pytest.mark.data
def test_real_photographs_agree_with_pillow(data_root: Path) -> None:
    for folder in (
        "industrial/toy_aliens/normal",
        "industrial/cookies/test-images",
        "industrial/magnetic_tile/MT_Free/Imgs",
    ):
        paths = sorted((data_root / folder).glob("*.jpg"))[:8]
        assert paths
        for path in paths:
            wanted = np.asarray(ImageOps.exif_transpose(opened(path)))
            read = decode(path)
            assert np.abs(read.astype(int) - wanted.reshape(read.shape)).max() <= 1
