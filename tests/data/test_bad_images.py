"""Bad input: one clear error each, nothing lost, never a crash.

Every case is a folder (or a list) that also holds two good images; the good ones must come through, and the
bad one must be one `BadItem` whose words name it.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from offnominal.core.errors import BadItem, BadSource
from offnominal.data import Limits, images, prefetch

GOOD = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def bomb_png(width: int = 50_000, height: int = 50_000) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def good(path: Path, **options: object) -> None:
    Image.fromarray(GOOD).save(path, **options)


def truncated(name: str, share: float = 0.6) -> Callable[[Path], str]:
    def make(root: Path) -> str:
        good(root / name)
        cut(root / name, share)
        return name

    return make


def written(name: str, data: bytes) -> Callable[[Path], str]:
    def make(root: Path) -> str:
        (root / name).write_bytes(data)
        return name

    return make


def animated(name: str) -> Callable[[Path], str]:
    def make(root: Path) -> str:
        frames = [Image.fromarray(np.roll(GOOD, shift, axis=0)) for shift in range(3)]
        frames[0].save(root / name, save_all=True, append_images=frames[1:])
        return name

    return make


def float_tiff(value: float) -> Callable[[Path], str]:
    def make(root: Path) -> str:
        image = np.zeros((8, 8), dtype=np.float32)
        image[2, 3:5] = value
        tifffile.imwrite(root / "bad.tif", image)
        return "bad.tif"

    return make


def big_tiff(root: Path) -> str:
    tifffile.imwrite(root / "bad.tif", shape=(4, 4), dtype="uint8")
    data = bytearray((root / "bad.tif").read_bytes())
    with tifffile.TiffFile(root / "bad.tif") as file:
        for name in ("ImageWidth", "ImageLength"):
            tag = file.pages[0].tags[name]
            struct.pack_into("<HII", data, tag.offset + 2, 4, 1, 50_000)
    (root / "bad.tif").write_bytes(data)
    return "bad.tif"


def many_channels(root: Path) -> str:
    tifffile.imwrite(
        root / "bad.tif", np.zeros((4, 4, 600), np.uint8), photometric="minisblack", planarconfig="contig"
    )
    return "bad.tif"


def inflating_tiff(root: Path) -> str:
    """Declares 64 × 64 pixels and unpacks to 400 MB."""
    tifffile.imwrite(root / "bad.tif", np.zeros((64, 64), np.uint8), compression="zlib", rowsperstrip=64)
    data = bytearray((root / "bad.tif").read_bytes())
    packed = zlib.compress(bytes(400 << 20), 1)
    with tifffile.TiffFile(root / "bad.tif") as file:
        tags = file.pages[0].tags
        struct.pack_into("<I", data, tags["StripOffsets"].valueoffset, len(data))
        struct.pack_into("<HII", data, tags["StripByteCounts"].offset + 2, 4, 1, len(packed))
    (root / "bad.tif").write_bytes(data + packed)
    return "bad.tif"


def lzma_tiff(root: Path) -> str:
    tifffile.imwrite(root / "bad.tif", np.zeros((64, 64), np.uint8), compression="lzma")
    return "bad.tif"


def complex_tiff(root: Path) -> str:
    tifffile.imwrite(root / "bad.tif", np.zeros((4, 4), np.complex64))
    return "bad.tif"


def self_link(root: Path) -> str:
    os.symlink("bad.png", root / "bad.png")
    return "bad.png"


def loop_link(root: Path) -> str:
    (root / "below").mkdir()
    os.symlink(root, root / "below" / "up", target_is_directory=True)
    return "below/up/"


def dangling_link(root: Path) -> str:
    os.symlink("nowhere.png", root / "bad.png")
    return "bad.png"


def pipe(root: Path) -> str:
    os.mkfifo(root / "bad.png")
    return "bad.png"


CASES: dict[str, tuple[Callable[[Path], str], str]] = {
    "truncated png": (truncated("bad.png"), "truncated"),
    "truncated jpeg": (truncated("bad.jpg"), "truncated"),
    "truncated jpeg header": (truncated("bad.jpg", 0.05), "truncated"),
    "truncated bmp": (truncated("bad.bmp"), "truncated"),
    "truncated webp": (truncated("bad.webp"), "damaged"),
    "truncated tiff": (truncated("bad.tif"), "damaged"),
    "zero bytes": (written("bad.png", b""), "empty"),
    "three bytes": (written("bad.jpg", b"\xff\xd8\xff"), "truncated"),
    "text named png": (written("bad.png", b"these are my notes\n"), "text"),
    "other bytes": (written("bad.png", bytes(range(64))), "not an image"),
    "png bomb": (written("bad.png", bomb_png()), "50000×50000"),
    "tiff bomb": (big_tiff, "50000×50000"),
    "tiff that inflates": (inflating_tiff, "unpacks to more"),
    "tiff packed without bound": (lzma_tiff, "packed as LZMA"),
    "no pixels": (written("bad.png", bomb_png(0, 7)), "no pixels"),
    "too many channels": (many_channels, "600 channels"),
    "animated gif": (animated("bad.gif"), "3 frames"),
    "animated png": (animated("bad.png"), "3 frames"),
    "animated webp": (animated("bad.webp"), "3 frames"),
    "several pages": (animated("bad.tif"), "several pages"),
    "nan": (float_tiff(np.nan), "2 NaN value(s) of 64"),
    "infinite": (float_tiff(np.inf), "2 infinite value(s) of 64"),
    "complex numbers": (complex_tiff, "complex64"),
    "link to itself": (self_link, "leads back to itself"),
    "link to a folder above": (loop_link, "link to a folder that contains it"),
    "link to nothing": (dangling_link, "gone"),
    "pipe": (pipe, "not a regular file"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_one_clear_error_and_the_rest_is_read(case: str, tmp_path: Path) -> None:
    make, words = CASES[case]
    good(tmp_path / "a.png")
    good(tmp_path / "z.png")
    try:
        name = make(tmp_path)
    except (OSError, AttributeError) as error:
        pytest.skip(f"this system cannot make the case: {error}")
    source = images(tmp_path)
    assert [reference.item for reference in source.references] == ["a.png", name, "z.png"]
    found = dict(prefetch(source, range(3), workers=2))
    for position in (0, 2):
        np.testing.assert_array_equal(found[position].value, GOOD)
    bad = found[1]
    assert isinstance(bad, BadItem)
    assert bad.item == name
    assert words in bad.reason
    assert bad.remedy
    assert "\n" not in str(bad)
    assert str(bad).count(name.rstrip("/")) == 1
    with pytest.raises(BadItem):
        source.read(1)


def test_jpeg_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    good(tmp_path / "bad.jpg")
    data = bytearray((tmp_path / "bad.jpg").read_bytes())
    place = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, place + 5, 50_000, 50_000)
    (tmp_path / "bad.jpg").write_bytes(data)
    with pytest.raises(BadItem, match="50000×50000"):
        images(tmp_path).read(0)


@pytest.mark.parametrize("suffix", ["gif", "bmp", "webp"])
def test_limits_hold_for_every_format(tmp_path: Path, suffix: str) -> None:
    good(tmp_path / f"x.{suffix}")
    with pytest.raises(BadItem, match="at most 700 are decoded"):
        images(tmp_path, limits=Limits(max_pixels=700)).read(0)
    with pytest.raises(BadItem, match="bytes on disk"):
        images(tmp_path, limits=Limits(max_bytes=40)).read(0)
    assert images(tmp_path, limits=Limits(max_pixels=768)).read(0).value.shape[:2] == (24, 32)


def test_an_unreadable_folder_is_one_bad_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    good(tmp_path / "closed" / "hidden.png")
    good(tmp_path / "a.png")
    listed = os.scandir

    def scandir(path: str):  # root may read everything, so the refusal is played
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for given in (tmp_path, str(tmp_path / "**" / "*.png"), [tmp_path / "a.png", tmp_path / "closed"]):
        source = images(given)
        assert [reference.item for reference in source.references] == ["a.png", "closed/"]
        assert source.read(0).value.shape == (24, 32, 3)
        with pytest.raises(BadItem, match=r"closed/: the folder .*ermission denied"):
            source.read(1)
    with pytest.raises(BadSource, match="Permission denied"):
        images(tmp_path / "closed")


def test_a_folder_that_vanishes_while_listed_and_a_file_that_vanishes_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image_folder: Callable[..., Path]
) -> None:
    root = image_folder("a.png", "b.png", "late/c.png")
    source = images(root)
    (root / "b.png").unlink()
    image_folder("new.png")
    found = [entry for _, entry in prefetch(source, range(3))]
    assert isinstance(found[1], BadItem)
    assert "gone" in found[1].reason
    assert [reference.item for reference in source.references] == ["a.png", "b.png", "late/c.png"]
    listed = os.scandir

    def scandir(path: str):
        if str(path).endswith("late"):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(BadItem, match="late/: the folder is gone"):
        images(root).read(1)


def test_a_file_that_grows_or_shrinks_between_two_readings_is_read_as_it_is(tmp_path: Path) -> None:
    good(tmp_path / "a.png")
    source = images(tmp_path)
    assert source.read(0).value.shape == (24, 32, 3)
    Image.fromarray(GOOD[:5, :6, 0]).save(tmp_path / "a.png")
    assert source.read(0).value.shape == (5, 6, 1)
    cut(tmp_path / "a.png", 0.5)
    with pytest.raises(BadItem, match=r"a\.png: is truncated"):
        source.read(0)


NAMES = [
    "größe.png",
    "部品 7.png",
    "деталь.png",
    "قطعة.png",
    "भाग.png",
    "🔩.png",
    "a b\tc.png",
    "x#2.png",
    "[1].png",
]


def test_names_in_any_script(image_folder: Callable[..., Path]) -> None:
    root = image_folder(*NAMES)
    source = images(root)
    assert sorted(reference.item for reference in source.references) == sorted(NAMES)
    for position in range(len(source)):
        assert source.read(position).value.shape == (24, 32, 3)
        json.dumps(source.references[position].item).encode("utf-8")
    assert images(str(root / "[1].png")).read(0).value.shape == (24, 32, 3)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    good(tmp_path / "a.png")
    raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        os.rename(tmp_path / "a.png", raw)
    except OSError as error:
        pytest.skip(f"this file system takes text only: {error}")
    for given in (tmp_path, raw, [os.fsdecode(raw)], str(tmp_path / "*.png")):
        source = images(given)
        assert [reference.item for reference in source.references] == [r"caf\udce9.png"]
        source.references[0].source.encode("utf-8")
        assert source.read(0).value.shape == (24, 32, 3)
    Path(os.fsdecode(raw)).write_bytes(b"")
    with pytest.raises(BadItem) as caught:
        images(tmp_path).read(0)
    str(caught.value).encode("utf-8")


def test_one_image_identical_images_and_constant_images_are_good_items(tmp_path: Path) -> None:
    one = images(GOOD)
    assert len(one) == 1
    for path in ("a.png", "b.png"):
        good(tmp_path / path)
    Image.new("RGB", (5, 7), (9, 9, 9)).save(tmp_path / "c.png")
    Image.new("L", (3, 2), 0).save(tmp_path / "d.png")
    source = images(tmp_path)
    shapes = [found.value.shape for _, found in prefetch(source, range(4))]
    assert shapes == [(24, 32, 3), (24, 32, 3), (7, 5, 3), (2, 3, 1)]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((4, 4, 1), np.nan, np.float32), "16 NaN"),
        (np.zeros((4, 4), complex), "complex128"),
        (np.array([["a", "b"]]), "<U1"),
        (np.zeros((0, 4)), "no pixels"),
        (np.zeros((2, 2, 2, 2)), "shape"),
        (np.zeros(7), "shape"),
        (np.zeros((2, 2, 513), np.uint8), "513 channels"),
        (np.full((2, 2), 1e300), "infinite"),
        (None, "shape"),
    ],
)
def test_a_bad_array_is_one_bad_item(array: object, words: str) -> None:
    source = images([GOOD, array, GOOD])
    found = [entry for _, entry in prefetch(source, range(3))]
    assert isinstance(found[1], BadItem)
    assert found[1].item == "1"
    assert words in found[1].reason
    assert found[0].value.shape == found[2].value.shape == GOOD.shape


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("no/such/folder", "no such file"),
        ("https://example.org/x.png", "download it first"),
        ("no/such/*.png", "cannot be read"),
        ([], "empty list"),
        (["a.png", GOOD], "either paths or arrays"),
        (7, "cannot come from int"),
        (np.zeros((1, 2, 3, 4, 5)), "no image"),
        ("nul\0.png", "."),
    ],
)
def test_a_source_that_is_none_says_so(given: object, words: str) -> None:
    with pytest.raises(BadSource, match=words):
        images(given)


def test_an_empty_folder_says_what_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing here")
    (tmp_path / ".hidden.png").write_bytes(b"")
    with pytest.raises(BadSource, match=r"no image found; files ending in .*\.png"):
        images(tmp_path)
