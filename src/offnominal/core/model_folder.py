"""A model on disk: a folder with ``model.json`` and the arrays file it names, nothing else.

Every save writes its arrays under a name of its own and then renames the new header into place: that one
rename is the whole replacement. The header carries the hash, type and shape of every array; reading checks
them, refuses newer formats, and reads older ones for ever.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import ModelRefused
from offnominal.core.store import ARRAYS_LIMIT, read_arrays, read_json, sha256, write_arrays, write_json

FORMAT = 1
HEADER = "model.json"
_ARRAYS = re.compile(r"arrays-[0-9a-f]{16}\.safetensors")
_UNFINISHED = re.compile(rf"\.({re.escape(HEADER)}|{_ARRAYS.pattern})\.[^.]+\.part")


def _digest(header: Mapping[str, Any]) -> str:
    """Hash of the header without its own digest, in canonical JSON."""
    rest = {key: value for key, value in header.items() if key != "digest"}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def is_replaceable(folder: str | os.PathLike[str]) -> bool:
    """Whether a model may be written there: nothing is there, an empty folder, or a model folder."""
    target = Path(folder)
    if not target.is_dir():
        return not os.path.lexists(target)
    # Of a first save that was killed only our own unfinished files are there, and no header yet.
    if all(_is_ours(entry.name) for entry in target.iterdir()):
        return True
    if not (target / HEADER).is_file():
        return False
    try:
        header = read_json(target / HEADER)
    except ModelRefused:
        return False
    return (
        isinstance(header, dict)
        and type(header.get("format")) is int
        and isinstance(header.get("arrays_sha256"), str)
    )


def _is_ours(name: str) -> bool:
    """Whether a name is one that only a save gives: arrays, or a file not yet renamed."""
    return bool(_ARRAYS.fullmatch(name) or _UNFINISHED.fullmatch(name))


def write_model(
    folder: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Write a model folder; an older model there is replaced, in one rename, once the new one is whole.

    Raises
    ------
    FileExistsError
        ``folder`` exists and is not a model folder: nothing of the user's is overwritten.
    OSError
        It cannot be written; an older model there is as it was.
    """
    target = Path(folder)
    if not is_replaceable(target):
        raise FileExistsError(f"{target} exists and is not a model folder; choose another name")
    is_new = not target.exists()
    target.mkdir(parents=True, exist_ok=True)
    arrays_file = target / f"arrays-{secrets.token_hex(8)}.safetensors"
    try:
        write_arrays(arrays_file, arrays)
        full = {
            **header,
            "format": FORMAT,
            "arrays": {name: [str(array.dtype), list(array.shape)] for name, array in arrays.items()},
            "arrays_file": arrays_file.name,
            "arrays_sha256": sha256(arrays_file),
        }
        full = json.loads(json.dumps(full, allow_nan=False))
        write_json(target / HEADER, {**full, "digest": _digest(full)})
    except BaseException:
        if _named(target) != arrays_file.name:  # an interrupt may come just after the rename
            with contextlib.suppress(OSError):
                arrays_file.unlink()
            if is_new:
                with contextlib.suppress(OSError):
                    target.rmdir()
        raise
    _clear(target)


def _named(folder: Path) -> str | None:
    """Return the arrays file that the header on disk names, if it does."""
    try:
        header = read_json(folder / HEADER)
    except ModelRefused:
        return None
    name = header.get("arrays_file") if isinstance(header, dict) else None
    return name if isinstance(name, str) else None


def _clear(folder: Path) -> None:
    """Remove what earlier saves left; the model is written already, so a failure here loses nothing."""
    kept = _named(folder)
    with contextlib.suppress(OSError):
        for entry in list(folder.iterdir()):
            if kept is not None and entry.name != kept and _is_ours(entry.name):
                with contextlib.suppress(OSError):
                    entry.unlink()


def read_model(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Read a model folder and check it.

    Returns
    -------
    header : dict
    arrays : dict of ndarray

    Raises
    ------
    ModelRefused
        Not a model folder, a newer format, or a header or arrays that are not what was written.
    """
    home = Path(folder)
    if not (home / HEADER).is_file():
        raise ModelRefused(f"{home} is not a model folder: it has no {HEADER}; `offnominal fit` makes one")
    header = read_json(home / HEADER)
    if not isinstance(header, dict) or not isinstance(header.get("format"), int):
        raise ModelRefused(f"{home / HEADER} is not a model header; the file is damaged")
    if header["format"] > FORMAT:
        raise ModelRefused(
            f"{home} has model format {header['format']}, this version reads {FORMAT}; update offnominal"
        )
    if header.get("digest") != _digest(header):
        raise ModelRefused(f"{home / HEADER} was changed after it was written; fit the model again")
    file = _arrays_file(home, header)
    try:
        found = sha256(file)
    except OSError as error:
        raise ModelRefused(f"{file}: {error.strerror}; the folder is incomplete") from error
    if found != header.get("arrays_sha256"):
        raise ModelRefused(f"{file} is not the file that was written; fit the model again")
    arrays = read_arrays(file)
    if {name: [str(array.dtype), list(array.shape)] for name, array in arrays.items()} != header.get(
        "arrays"
    ):
        raise ModelRefused(f"{file}: arrays are not those of the header; fit the model again")
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise ModelRefused(f"{file}: array {name} is not finite; fit the model again")
    return header, arrays


def _arrays_file(home: Path, header: Mapping[str, Any]) -> Path:
    """Return the arrays file of a header: a regular file of bounded size, in the folder itself."""
    name = header.get("arrays_file")
    if not isinstance(name, str) or not _ARRAYS.fullmatch(name):
        raise ModelRefused(f"{home / HEADER} names no arrays file of its folder; fit the model again")
    file = home / name
    if not file.is_file():  # a device or a pipe could be read without end
        raise ModelRefused(f"{file} is missing or not a regular file; the folder is incomplete")
    if (size := file.stat().st_size) > ARRAYS_LIMIT:
        raise ModelRefused(f"{file}: {size} bytes, at most {ARRAYS_LIMIT} are read")
    return file
