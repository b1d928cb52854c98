"""The folder of an export: the graph's files, ``export.json`` that describes them, and ``threshold.json``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from offnominal.core.errors import ModelRefused
from offnominal.core.store import read_json, sha256, write_json

FORMAT = 1
HEADER = "export.json"
THRESHOLD = "threshold.json"


def _digest(header: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in header.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder`` that takes its place at the end, or goes if the block raises.

    Raises
    ------
    FileExistsError
        ``folder`` holds something other than an export.
    """
    if folder.exists() and not (folder / HEADER).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not an export; choose another name")
    folder.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:40]}."))
    try:
        yield workshop
        umask = os.umask(0)
        os.umask(umask)
        workshop.chmod(0o777 & ~umask)
        if folder.exists():
            old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:40]}.old."))
            os.replace(folder, old / "export")
            os.replace(workshop, folder)
            shutil.rmtree(old)
        else:
            os.replace(workshop, folder)
    except BaseException:
        shutil.rmtree(workshop, ignore_errors=True)
        raise


def write_header(folder: Path, header: Mapping[str, Any], files: Sequence[str]) -> None:
    """Write ``export.json`` with the hashes of the graph's files."""
    full = {**header, "format": FORMAT, "files": {name: sha256(folder / name) for name in files}}
    full = json.loads(json.dumps(full, allow_nan=False))
    write_json(folder / HEADER, {**full, "digest": _digest(full)})


def read_header(folder: Path) -> dict[str, Any]:
    """Read ``export.json`` and check it and the files it names.

    Raises
    ------
    ModelRefused
        Not an export, a newer form, or something was changed after it was written.
    """
    if not (folder / HEADER).is_file():
        raise ModelRefused(f"{folder} is not an export: it has no {HEADER}; `offnominal export` makes one")
    header = read_json(folder / HEADER)
    if not isinstance(header, dict) or not isinstance(header.get("format"), int):
        raise ModelRefused(f"{folder / HEADER} is not an export's header; the file is damaged")
    if header["format"] > FORMAT:
        raise ModelRefused(
            f"{folder} has export format {header['format']}, this version reads up to {FORMAT}; "
            "update offnominal"
        )
    if header.get("digest") != _digest(header):
        raise ModelRefused(f"{folder / HEADER} was changed after it was written; export the model again")
    for name, wanted in header["files"].items():
        if Path(name).name != name:
            raise ModelRefused(f"{folder / HEADER} names a file outside its folder; export the model again")
        if not (folder / name).is_file():
            raise ModelRefused(f"{folder / name} is missing; export the model again")
        if sha256(folder / name) != wanted:
            raise ModelRefused(f"{folder / name} is not the file that was written; export the model again")
    return header
