"""Safe files: atomic writes, JSON and safetensors, and nothing that could run code.

A reader states how much it accepts before it allocates; a writer leaves either the old file or the whole
new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import ModelRefused

JSON_LIMIT = 64 << 20
ARRAYS_LIMIT = 16 << 30


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is flushed and takes its place.

    Parameters
    ----------
    path : path-like
        The final file. Missing parent folders are made.

    Yields
    ------
    Path
        Where to write. If the block raises, the temporary file goes and ``path`` stays as it was.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=final.parent, prefix=f".{final.name[:40]}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, final)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = os.fspath(final)  # a failed write does not say of what
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically, with the same line ends on every platform."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike[str], value: Any, *, indent: int | None = 2) -> None:
    """Write a JSON file atomically; NaN and infinities are refused rather than written as non-JSON."""
    write_text(path, json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent) + "\n")


def read_json(path: str | os.PathLike[str], limit: int = JSON_LIMIT) -> Any:
    """Read a JSON file of at most ``limit`` bytes.

    Raises
    ------
    ModelRefused
        The file is missing, larger than ``limit``, nested too deep, or not JSON.
    """
    file = Path(path)
    try:
        size = file.stat().st_size
        if size > limit:
            raise ModelRefused(f"{file}: {size} bytes of JSON, at most {limit} are read")
        return json.loads(file.read_bytes())
    except OSError as error:
        raise ModelRefused(f"{file}: {error.strerror or error}; the folder is incomplete") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, ModelRefused):
            raise
        raise ModelRefused(f"{file}: not valid JSON ({error}); the file is damaged") from error


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write named arrays atomically, in safetensors form.

    Raises
    ------
    OSError
        The file cannot be written: a full disk, no permission.
    """
    from safetensors.numpy import save

    # Serialised here and written by us: the library's own writer leaves a file of another name when it is
    # killed, and hides the system's error number in a text.
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def read_arrays(path: str | os.PathLike[str], limit: int = ARRAYS_LIMIT) -> dict[str, npt.NDArray[Any]]:
    """Read a safetensors file of at most ``limit`` bytes; the form holds arrays and nothing else.

    Raises
    ------
    ModelRefused
        The file is missing, larger than ``limit``, truncated or malformed.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    file = Path(path)
    try:
        size = file.stat().st_size
        if size > limit:
            raise ModelRefused(f"{file}: {size} bytes, at most {limit} are read")
        return load_file(file)
    except OSError as error:
        raise ModelRefused(f"{file}: {error.strerror or error}; the folder is incomplete") from error
    except (SafetensorError, ValueError, KeyError) as error:
        if isinstance(error, ModelRefused):
            raise
        raise ModelRefused(f"{file}: not a whole safetensors file ({error})") from error


def sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def is_json(value: Any) -> bool:
    """Whether a value is made of JSON types only, all numbers finite."""
    if value is None or isinstance(value, bool | int | str):
        return True
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list | tuple):
        return all(is_json(entry) for entry in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_json(entry) for key, entry in value.items())
    return False
