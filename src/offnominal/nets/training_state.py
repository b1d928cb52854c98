"""A training on disk: safetensors and JSON, of which the JSON is written last and names the other."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from offnominal.core.errors import ModelRefused
from offnominal.core.store import read_arrays, read_json, write_arrays, write_json

Arrays = dict[str, npt.NDArray[Any]]


class TrainingFolder:
    """Keeps the last saved epoch of one training.

    Parameters
    ----------
    folder : path
    facts : JSON value
        What makes this training this one; a folder written by another one counts as empty.
    """

    def __init__(self, folder: str | os.PathLike[str], facts: Any) -> None:
        self._folder = Path(folder)
        self._key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def load(self) -> tuple[dict[str, Any], Arrays] | None:
        """Return what `store` was given, or None where there is nothing to go on from."""
        if not (file := self._folder / "training.json").is_file():
            return None
        try:
            header = read_json(file)
            if header["key"] != self._key or Path(header["arrays"]).name != header["arrays"]:
                return None
            return header["state"], read_arrays(self._folder / header["arrays"])
        except (ModelRefused, KeyError, TypeError):
            return None  # a damaged file costs time, not the training

    def store(self, state: dict[str, Any], arrays: Arrays) -> None:
        """Keep an epoch; the one before goes when this one is whole."""
        name = f"epoch-{state['epoch']}.safetensors"
        write_arrays(self._folder / name, arrays)
        write_json(self._folder / "training.json", {"key": self._key, "arrays": name, "state": state})
        for old in self._folder.glob("epoch-*.safetensors"):
            if old.name != name:
                old.unlink(missing_ok=True)


def pack_optimiser(optimiser: torch.optim.Optimizer, prefix: str, arrays: Arrays) -> dict[str, Any]:
    """Put an optimiser's tensors into ``arrays``; return its numbers."""
    numbers: dict[str, Any] = {}
    for index, state in optimiser.state_dict()["state"].items():
        for name, value in state.items():
            key = f"{index}/{name}"
            if isinstance(value, torch.Tensor):
                arrays[f"{prefix}{key}"] = value.detach().cpu().numpy().copy()
                numbers[key] = list(value.shape)
            else:
                numbers[key] = {"value": value}
    return numbers


def unpack_optimiser(
    optimiser: torch.optim.Optimizer, prefix: str, arrays: Mapping[str, npt.NDArray[Any]], numbers: Any
) -> None:
    """Give a fresh optimiser the state that `pack_optimiser` took."""
    state: dict[int, dict[str, Any]] = {}
    for key, entry in numbers.items():
        index, _, name = key.partition("/")
        value = (
            torch.from_numpy(np.array(arrays[f"{prefix}{key}"]).reshape(entry))
            if isinstance(entry, list)
            else entry["value"]
        )
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
