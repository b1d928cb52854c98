"""TIFF of any depth and number of channels, through tifffile; packings it lacks through Pillow."""

from __future__ import annotations

import logging
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.data.decode_pillow import flatten_alpha, to_array
from offnominal.data.limits import AGAIN, PAGES, Limits, RefusalError
from offnominal.data.orientation import upright
from offnominal.data.values import known_numbers

_DEFLATE = (8, 32946)
_UNBOUNDED = (34925, 34926, 50000)  # LZMA and Zstandard: nothing holds their output to the header's size
_HARMLESS = 256 << 10  # packed bytes; deflate grows them 1032 times at most
_MINISWHITE, _PALETTE, _SEPARATED, _YCBCR = 0, 3, 5, 6


def read(path: str, limits: Limits) -> npt.NDArray[Any]:
    """Decode the one page of a TIFF file; reduced copies and masks beside it are passed over."""
    import tifffile

    _hush()
    try:
        with tifffile.TiffFile(path) as file:
            page = _single_page(file)
            shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
            limits.check_shape(*shape)
            if page.imagedepth > 1:
                raise RefusalError(f"is a volume of {page.imagedepth} slices", PAGES)
            _check_packing(file, page)
            try:
                image: npt.NDArray[Any] = page.asarray()
            except (ValueError, ImportError, KeyError) as error:
                if "imagecodecs" not in str(error) and not isinstance(error, ImportError):
                    raise
                return _through_pillow(path, page)
            return upright(_plain(image, page), _orientation(page))
    except tifffile.TiffFileError as error:
        raise RefusalError(f"is damaged ({error})", AGAIN) from None


def _hush() -> None:
    """Keep tifffile's log off the terminal where no logging is set up: errors are raised anyway."""
    log = logging.getLogger("tifffile")
    if not log.handlers:
        log.addHandler(logging.NullHandler())


def _single_page(file: Any) -> Any:
    pages = file.pages
    first = pages[0]
    for number in range(1, 64):
        try:
            page = pages[number]
        except IndexError:
            return first
        if not int(getattr(page, "subfiletype", 0)) & 0b101:  # neither a reduced copy nor a mask
            raise RefusalError("holds several pages, and an item is one image", PAGES)
    raise RefusalError("holds too many pages", PAGES)


def _check_packing(file: Any, page: Any) -> None:
    """Refuse packed data that unpack to more than the header says, before they do."""
    packing = int(page.compression)
    if packing in _UNBOUNDED:
        raise RefusalError(f"is packed as {page.compression.name}", "save it uncompressed or with deflate")
    if packing not in _DEFLATE:
        return
    declared = 2 * int(page.nbytes) + (1 << 20)  # tiles may reach beyond the image
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if count <= _HARMLESS:
            continue
        file.filehandle.seek(offset)
        rest = file.filehandle.read(min(int(count), file.filehandle.size))
        unpacker = zlib.decompressobj()
        size = 0
        while rest and not unpacker.eof:
            size += len(unpacker.decompress(rest, 1 << 20))
            rest = unpacker.unconsumed_tail
            if size > declared:
                raise RefusalError("unpacks to more than its header says", AGAIN)


def _orientation(page: Any) -> int:
    tag = page.tags.get(274)
    value = int(tag.value) if tag is not None else 1
    return value if 1 <= value <= 8 else 1


def _plain(image: npt.NDArray[Any], page: Any) -> npt.NDArray[Any]:
    """Bring the pixels of a page to (H, W, C), by what its tags say they mean."""
    channels = int(page.samplesperpixel)
    if channels > 1 and int(page.planarconfig) == 2:
        image = np.moveaxis(image.reshape(channels, page.imagelength, page.imagewidth), 0, -1)
    image = image.reshape(page.imagelength, page.imagewidth, channels)
    photometric = int(page.photometric)
    if photometric == _PALETTE and page.colormap is not None:
        colours = np.asarray(page.colormap, dtype=np.uint16).T  # (entries, 3)
        wide = int(colours.max(initial=0)) > 255
        table = (colours >> 8 if wide else colours).astype(np.uint8)
        looked_up: npt.NDArray[np.uint8] = table[image[..., 0]]
        return looked_up
    image = known_numbers(image, int(page.bitspersample) if isinstance(page.bitspersample, int) else None)
    if image.dtype.kind == "u":
        if photometric == _MINISWHITE and channels == 1:
            inverted: npt.NDArray[Any] = np.bitwise_not(image)
            return inverted
        if photometric == _SEPARATED and channels == 4:
            return _from_cmyk(image)
        alpha = [int(extra) in (1, 2) for extra in page.extrasamples or ()]
        if len(alpha) == 1 and alpha[0] and channels in (2, 4):
            return flatten_alpha(image)
    return image


def _from_cmyk(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    top = float(np.iinfo(image.dtype).max)
    ink = image.astype(np.float32)
    return np.rint((top - ink[..., :3]) * (top - ink[..., 3:]) / top).astype(image.dtype)


def _through_pillow(path: str, page: Any) -> npt.NDArray[Any]:
    """Decode a packing such as LZW or JPEG, where Pillow keeps every bit."""
    depth = page.bitspersample
    exact = depth in (1, 8) or (int(page.samplesperpixel) == 1 and depth in (16, 32))
    if not exact:
        raise RefusalError(
            f"is packed as {page.compression.name} with {depth} bits a sample",
            "pip install imagecodecs, or save it uncompressed or with deflate",
        )
    from PIL import ImageOps, TiffImagePlugin

    with open(path, "rb") as file:
        image = TiffImagePlugin.TiffImageFile(file)
        image.load()
        turned = ImageOps.exif_transpose(image)
        return to_array(image if turned is None else turned)
