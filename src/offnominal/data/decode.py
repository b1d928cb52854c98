"""One image file to one array, by what the file holds and not by what it is called.

Sizes are checked from the header before anything is allocated, and Pillow's plugins are called directly:
the format is the one named here and its own size warnings never fire.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

import numpy.typing as npt

from offnominal.core.errors import BadItem
from offnominal.data import decode_jpeg, decode_pillow, decode_png, decode_tiff
from offnominal.data.limits import AGAIN, Limits, RefusalError
from offnominal.data.values import finite

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif"})


def decode(
    path: str | os.PathLike[str], *, item: str | None = None, limits: Limits | None = None
) -> npt.NDArray[Any]:
    """Read an image file.

    Parameters
    ----------
    path : path-like
        PNG, JPEG, WebP, BMP, GIF (one frame) or TIFF.
    item : str, optional
        Name in the error, default the path.
    limits : Limits, optional
        What the file may cost.

    Returns
    -------
    ndarray (H, W, C)
        C-contiguous; ``uint8`` in 0…255, ``uint16`` in 0…65535 or finite ``float32``. Grey images have one
        channel, CMYK and palettes become RGB, bits become 0 and 255, other numbers ``float32``. The EXIF
        orientation is applied. An alpha channel that is opaque throughout is dropped; any other is
        composited over mid grey (in float images it stays a channel). Unnamed extra channels are kept.

    Raises
    ------
    BadItem
        The file is missing, unreadable, empty, damaged, too large, animated or multi-page, of an unknown
        format, or holds NaN or infinities.
    """
    name = os.fspath(path) if item is None else item
    try:
        return _decode(os.fspath(path), limits or Limits())
    except RefusalError as refusal:
        raise BadItem(name, refusal.reason, refusal.remedy) from None
    except OSError as error:
        raise BadItem(name, *_explain(error)) from error
    except MemoryError as error:
        raise BadItem(name, "does not fit in memory", "cut the image into tiles, or free memory") from error
    except (
        Exception
    ) as error:  # a decoder may fail in any way on hostile bytes; the item is named, the run goes on
        raise BadItem(name, f"is damaged ({_words(error)})", AGAIN) from error


def _decode(path: str, limits: Limits) -> npt.NDArray[Any]:
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise RefusalError("is a folder, not an image", "name the folder itself as a source")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise RefusalError("is not a regular file", "save the image as a file")
    limits.check_bytes(status.st_size)
    with open(path, "rb") as file:
        head = file.read(16)
        kind = sniff(head)
        if kind is None:
            raise RefusalError(
                f"is not an image ({_guess(head)})", "PNG, JPEG, WebP, BMP, TIFF and GIF are read"
            )
        if kind != "tiff":  # tifffile reads what it needs itself
            file.seek(0)
            data = file.read(status.st_size)
    if kind == "tiff":
        image = decode_tiff.read(path, limits)
    elif kind == "jpeg":
        image = decode_jpeg.read(data, limits)
    elif kind == "png":
        image = decode_png.read(data, limits)
    else:
        image = decode_pillow.read(data, kind, limits)
    return finite(image)


def sniff(head: bytes) -> str | None:
    """Format of a file from its first 16 bytes, None where it is none that is read."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[:2] == b"BM":
        return "bmp"
    return None


def _guess(head: bytes) -> str:
    if all(byte in b"\t\n\r" or byte >= 32 for byte in head):
        return "it holds text"
    return "it begins with " + head[:4].hex(" ")


def _explain(error: OSError) -> tuple[str, str]:
    if isinstance(error, FileNotFoundError):
        return (
            "the file is gone (removed after listing, or a link to nothing)",
            "restore it, or list the folder again",
        )
    if error.errno == errno.ELOOP:
        return "is a symbolic link that leads back to itself", "remove the link"
    if isinstance(error, PermissionError):
        return "may not be read (permission denied)", "change the file's permissions"
    if error.errno is None:  # Pillow's decoders
        words = _words(error)
        if "truncated" in words.lower():
            return "is truncated", AGAIN
        return f"is damaged ({words})", AGAIN
    return f"cannot be read ({error.strerror})", "check the disk or the network share"


def _words(error: BaseException) -> str:
    text = str(error).split("\n", 1)[0].strip().rstrip(".")
    return text[:160] or type(error).__name__
