"""A fit that was killed goes on: each learned part is kept until the whole is done."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import ModelRefused
from offnominal.core.source import Source
from offnominal.core.store import read_arrays, write_arrays

if TYPE_CHECKING:
    from offnominal.detector import Detector


class Checkpoint:
    """Learned parts on disk, valid for one detector, source and split only.

    Parameters
    ----------
    folder : path or None
        Where to keep them; None keeps nothing.
    detector, source, parts
        What is being fitted: another detector, parameter, list of items or split starts afresh.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None,
        detector: Detector,
        source: Source,
        parts: list[npt.NDArray[np.intp]],
    ) -> None:
        self._folder: Path | None = None
        if folder is None:
            return
        facts = {
            "detector": detector.card.name,
            "params": detector.get_params(),
            "environment": detector._environment(),
            "items": [[source.references[int(i)].item for i in part] for part in parts],
            "stamps": [_stamp(source, int(i)) for part in parts for i in part],
        }
        key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
        self._root = Path(folder)
        self._folder = self._root / key

    def load(self, number: int) -> dict[str, npt.NDArray[Any]] | None:
        """Return a part's state, or None where it has to be learned."""
        if self._folder is None or not (file := self._folder / f"part-{number}.safetensors").is_file():
            return None
        try:
            return read_arrays(file)
        except ModelRefused:
            return None

    def store(self, number: int, pause: Callable[[], dict[str, npt.NDArray[Any]]]) -> None:
        """Keep a part's state, where the method can be paused."""
        if self._folder is not None and (arrays := pause()):
            write_arrays(self._folder / f"part-{number}.safetensors", arrays)

    def clear(self) -> None:
        """Remove all parts: the fit is done."""
        if self._folder is not None and self._folder.is_dir():
            shutil.rmtree(self._folder)
            with contextlib.suppress(OSError):  # the root stays where it holds something else
                self._root.rmdir()


def _stamp(source: Source, position: int) -> list[Any]:
    """What tells whether an item is still the same: its file's size and change time, or its bytes."""
    locate = getattr(source, "path", None)
    path = locate(position) if callable(locate) else None
    if path is None:
        value = source.read(position).value
        if not isinstance(value, np.ndarray):
            return []
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return [str(value.dtype), list(value.shape), digest]
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]
