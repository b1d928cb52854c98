"""A model on disk: a folder with ``model.json`` and ``arrays.safetensors``, nothing else.

The header carries the hash, type and shape of every array; reading checks them, refuses newer formats, and
reads older ones for ever.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import ModelRefused
from offnominal.core.store import read_arrays, read_json, sha256, write_arrays, write_json

FORMAT = 1
HEADER = "model.json"
ARRAYS = "arrays.safetensors"


def _digest(header: Mapping[str, Any]) -> str:
    """Hash of the header without its own digest, in canonical JSON."""
    rest = {key: value for key, value in header.items() if key != "digest"}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_model(
    folder: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Write a model folder; an older model there is replaced only once the new one is whole.

    Raises
    ------
    FileExistsError
        ``folder`` exists and is not a model folder: nothing of the user's is overwritten.
    """
    target = Path(folder)
    if target.exists() and not (target / HEADER).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} exists and is not a model folder; choose another name")
    target.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:40]}."))
    try:
        write_arrays(workshop / ARRAYS, arrays)
        full = {
            **header,
            "format": FORMAT,
            "arrays": {name: [str(array.dtype), list(array.shape)] for name, array in arrays.items()},
            "arrays_sha256": sha256(workshop / ARRAYS),
        }
        full = json.loads(json.dumps(full, allow_nan=False))
        write_json(workshop / HEADER, {**full, "digest": _digest(full)})
        umask = os.umask(0)
        os.umask(umask)
        workshop.chmod(0o777 & ~umask)
        if target.exists():
            old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:40]}.old."))
            os.replace(target, old / "model")
            os.replace(workshop, target)
            shutil.rmtree(old)
        else:
            os.replace(workshop, target)
    except BaseException:
        shutil.rmtree(workshop, ignore_errors=True)
        raise


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
    try:
        found = sha256(home / ARRAYS)
    except OSError as error:
        raise ModelRefused(f"{home / ARRAYS}: {error.strerror}; the folder is incomplete") from error
    if found != header.get("arrays_sha256"):
        raise ModelRefused(f"{home / ARRAYS} is not the file that was written; fit the model again")
    arrays = read_arrays(home / ARRAYS)
    if {name: [str(array.dtype), list(array.shape)] for name, array in arrays.items()} != header.get(
        "arrays"
    ):
        raise ModelRefused(f"{home / ARRAYS}: arrays are not those of the header; fit the model again")
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise ModelRefused(f"{home / ARRAYS}: array {name} is not finite; fit the model again")
    return header, arrays
