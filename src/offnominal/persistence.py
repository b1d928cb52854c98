"""Detectors to and from model folders, and detectors by name."""

from __future__ import annotations

import importlib
import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from offnominal import __version__
from offnominal.core.card import find
from offnominal.core.errors import ModelRefused, NotSavable
from offnominal.core.model_folder import read_model, write_model
from offnominal.core.store import is_json
from offnominal.decide import restore_decision

if TYPE_CHECKING:
    from offnominal.detector import Detector


class OtherEnvironment(UserWarning):
    """A model was loaded under another runtime or precision than it was calibrated with."""


def make(name: str, modality: str | None = None, **parameters: Any) -> Detector:
    """Make a detector by name.

    Parameters
    ----------
    name : str
        As `offnominal.catalogue` lists it.
    modality : str, optional
        Needed only where several modalities use the name.
    **parameters
        Constructor arguments.

    Raises
    ------
    UnknownName
        No such detector, or several and no modality given.
    TypeError
        A parameter it does not have.
    """
    entry = find(name, modality)
    cls = getattr(importlib.import_module(entry.module), entry.qualname)
    known = cls._parameter_names()
    if unknown := sorted(set(parameters) - set(known)):
        raise TypeError(f"{name} has no parameter {', '.join(unknown)}; it has {', '.join(known)}")
    detector: Detector = cls(**parameters)
    return detector


def save(detector: Detector, folder: str | os.PathLike[str]) -> None:
    """Write a fitted detector; see `Detector.save`."""
    header, arrays = to_state(detector)
    write_model(folder, header, arrays)


def to_state(detector: Detector) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Return a detector's header and arrays, as they are stored.

    Raises
    ------
    NotSavable
        Something learned is neither an array nor JSON.
    """
    learned: dict[str, Any] = {}
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, value in vars(detector).items():
        if not name.endswith("_") or name.startswith("_") or name == "decision_":
            continue
        if isinstance(value, np.ndarray) and value.dtype != object:
            arrays[name] = value
        elif _is_table(value):
            arrays.update({f"{name}/{key}": array for key, array in value.items()})
        elif is_json(value):
            learned[name] = value
        else:
            raise NotSavable(f"{detector.card.name}: learned {name} is neither an array nor JSON")
    if not is_json(parameters := detector.get_params()):
        raise NotSavable(f"{detector.card.name}: a parameter is not JSON: {parameters}")
    decision: dict[str, Any] | None = None
    if detector.decision_ is not None:
        decision = {"name": detector.decision_.name, "params": detector.decision_.get_params(), "state": {}}
        for name, value in detector.decision_.state().items():
            if isinstance(value, np.ndarray):
                arrays[f"decision.{name}"] = value
            else:
                decision["state"][name] = value
    header = {
        "detector": detector.card.name,
        "modality": detector.card.modality,
        "version": __version__,
        "params": parameters,
        "learned": learned,
        "decision": decision,
        "environment": detector._environment(),
    }
    return header, arrays


def _is_table(value: Any) -> bool:
    """Whether a value is a table of named arrays."""
    return isinstance(value, dict) and bool(value) and all(isinstance(v, np.ndarray) for v in value.values())


def load(folder: str | os.PathLike[str]) -> Detector:
    """Load a model folder.

    Under another runtime or precision than the model was saved with, scores differ a little: the model then
    warns (`OtherEnvironment`) and gives no verdict until `calibrate` is called.

    Raises
    ------
    ModelRefused
        The folder is damaged, was changed, is newer than this version, or rests on other weights.
    """
    header, arrays = read_model(folder)
    try:
        parameters = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in header["params"].items()
        }
        detector = make(header["detector"], header["modality"], **parameters)
        for name, value in header["learned"].items():
            setattr(detector, _learned_name(name), value)
        stored = header["decision"]
        state = dict(stored["state"]) if stored else {}
        for name, array in arrays.items():
            if name.startswith("decision."):
                state[name.removeprefix("decision.")] = array
            elif "/" in name:
                table, _, key = name.partition("/")
                vars(detector).setdefault(_learned_name(table), {})[key] = array
            else:
                setattr(detector, _learned_name(name), array)
        if stored:
            detector.decision_ = restore_decision(stored["name"], stored["params"], state)
        detector._restored()
        _compare(folder, header["environment"], detector)
    except ModelRefused:
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ModelRefused(f"{folder}: the model cannot be rebuilt ({error}); fit it again") from error
    return detector


def _learned_name(name: str) -> str:
    """Return a name only if it is one of learned state: a file must not replace anything else."""
    if not name.isidentifier() or name.startswith("_") or not name.endswith("_") or name == "decision_":
        raise ValueError(f"{name!r} is no learned state")
    return name


def _compare(folder: str | os.PathLike[str], then: dict[str, Any], detector: Detector) -> None:
    now = detector._environment()
    if then.get("weights") != now.get("weights"):
        raise ModelRefused(
            f"{folder} was made with other weights of {then.get('encoder')}; install those, or fit it again"
        )
    changed = [
        f"{key} {then.get(key)} → {now.get(key)}" for key in sorted(now) if then.get(key) != now.get(key)
    ]
    if changed:
        detector.decision_ = None
        warnings.warn(
            f"{folder}: {', '.join(changed)}; scores differ a little, so there is no verdict until calibrate",
            OtherEnvironment,
            stacklevel=3,
        )
