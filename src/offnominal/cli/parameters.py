"""``--set key=value``: a detector's parameters from the command line."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from offnominal.core.card import find
from offnominal.persistence import make

if typing.TYPE_CHECKING:
    from offnominal.detector import Detector


def detector_with(name: str, modality: str | None, settings: Sequence[str]) -> Detector:
    """Make a detector with the parameters a user set.

    Parameters
    ----------
    name, modality
        As `offnominal.make` takes them.
    settings : sequence of str
        ``key=value``; a value is read as JSON, else as text; a JSON list becomes a tuple.

    Raises
    ------
    click.UsageError
        Not of that form, a key the detector does not have, or a value of another type.
    UnknownName
        No such detector.
    """
    card = find(name, modality)
    if card.kind != "detector":
        raise click.UsageError(f"{name} is a {card.kind}, not a detector")
    cls = getattr(import_module(card.module), card.qualname)
    hints = typing.get_type_hints(cls.__init__)
    hints.pop("return", None)
    chosen: dict[str, Any] = {}
    for setting in settings:
        key, sign, text = setting.partition("=")
        if not sign or not key:
            raise click.UsageError(f"--set {setting!r}: write it as key=value")
        if key not in hints:
            raise click.UsageError(f"--set {key}: {name} has no such parameter; it has {', '.join(hints)}")
        value = _value(text)
        if not _fits(value, hints[key]):
            raise click.UsageError(f"--set {key}: {text!r} is not {_spoken(hints[key])}")
        chosen[key] = value
    return make(name, modality, **chosen)


def as_settings(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Parameters in the form of ``--set``."""
    return tuple(f"{key}={json.dumps(value)}" for key, value in parameters.items())


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, list):
        return tuple(value)
    return value


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    if hint is None or hint is type(None):
        return value is None
    if origin is tuple and arguments[-1] is Ellipsis:
        return isinstance(value, tuple) and all(_fits(one, arguments[0]) for one in value)
    if origin is tuple:
        return (
            isinstance(value, tuple)
            and len(value) == len(arguments)
            and all(_fits(one, kind) for one, kind in zip(value, arguments, strict=True))
        )
    if origin is typing.Literal:
        return value in arguments
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return not isinstance(hint, type) or isinstance(value, hint)


def _spoken(hint: Any) -> str:
    """A type as a user would say it."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_spoken(one) for one in arguments)
    if origin is tuple:
        return "a list"
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    return words.get(hint, str(hint))
