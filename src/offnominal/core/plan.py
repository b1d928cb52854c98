"""A plan: which detector with which parameters, and why; a file that one can read and edit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from offnominal.core.card import UnknownName, find
from offnominal.core.errors import BadSource
from offnominal.core.store import is_json, read_json, write_json

FORMAT = 1
_LIMIT = 2**20


@dataclass(frozen=True)
class Plan:
    """Choice of a detector.

    Attributes
    ----------
    modality, detector : str
        As `offnominal.make` takes them.
    parameters : mapping
        Constructor arguments; those left out keep their defaults.
    because : tuple of str
        Reasons, a sentence each.
    fingerprint : mapping
        What was seen of the data.
    """

    modality: str
    detector: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    because: tuple[str, ...] = ()
    fingerprint: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON."""
        value = {
            "format": FORMAT,
            "modality": self.modality,
            "detector": self.detector,
            "parameters": dict(self.parameters),
            "because": list(self.because),
            "fingerprint": dict(self.fingerprint),
        }
        write_json(path, value)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `write` wrote, or what someone made of it.

        Raises
        ------
        BadSource
            Not a plan: what is wrong, and what a plan holds.
        """
        name = os.fspath(path)
        try:
            value = read_json(path, limit=_LIMIT)
        except ValueError as error:
            raise BadSource(f"not a plan: {error}") from error
        if not isinstance(value, dict):
            raise BadSource(f"{name} is not a plan: it must hold a JSON object with modality and detector")
        if value.get("format", FORMAT) != FORMAT:
            raise BadSource(f"{name}: plan of format {value['format']!r}; this version reads {FORMAT}")
        known = {"format", "modality", "detector", "parameters", "because", "fingerprint"}
        if strange := sorted(set(value) - known):
            raise BadSource(f"{name}: a plan has no {', '.join(strange)}; it has {', '.join(sorted(known))}")
        modality, detector = value.get("modality"), value.get("detector")
        parameters, because = value.get("parameters", {}), value.get("because", [])
        fingerprint = value.get("fingerprint", {})
        if not isinstance(modality, str) or not isinstance(detector, str):
            raise BadSource(f"{name}: a plan needs modality and detector, both text")
        if not isinstance(parameters, dict) or not isinstance(fingerprint, dict) or not is_json(value):
            raise BadSource(f"{name}: parameters and fingerprint of a plan are JSON objects")
        if not isinstance(because, list) or not all(isinstance(reason, str) for reason in because):
            raise BadSource(f"{name}: because is a list of texts")
        try:
            find(detector, modality)
        except UnknownName as error:
            raise BadSource(f"{name}: {error}") from error
        return cls(modality, detector, parameters, tuple(because), fingerprint)
