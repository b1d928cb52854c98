"""Cards: what a method is, said once, beside its code.

``@card(...)`` takes literals only, so that the index of all cards is made by reading the source, without
importing it; `offnominal.make` then imports the one module it needs.
"""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from offnominal.core.errors import OffnominalError

C = TypeVar("C", bound=type)

KINDS = ("detector", "generator", "model", "writer", "index", "benchmark", "taxonomy")
SCOPES = ("item", "past", "series", "graph", "batch")
SETTINGS = ("full-shot", "few-shot", "zero-shot", "multi-class", "noisy", "supervised", "continual")
SUPERVISIONS = ("normal-only", "unlabelled", "supervised", "semi-supervised", "none")
EXPLANATIONS = ("distance", "reconstruction", "attention", "gradient", "perturbation", "reasoning", "none")


class UnknownName(OffnominalError, LookupError):
    """No card of that name; the message lists near ones."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a method is.

    Attributes
    ----------
    name : str
        Public, lower-case handle, unique within its modality.
    title, year, url : str, int, str
        The paper (or, where ``row`` is None, what the baseline is).
    kind : str
        One of ``KINDS``.
    modality : str
        What it reads.
    row : str or None
        Row of the catalogue, ``S001`` … ``S154``; None for baselines and classics.
    setting : tuple of str
        From ``SETTINGS``.
    supervision : str
        From ``SUPERVISIONS``.
    scope : str
        What a score may depend on, from ``SCOPES``.
    localises : bool
        Whether there are maps.
    streams : bool
        Whether it learns in pieces and merges.
    trains : bool
        Whether fitting is long: its decision then rests on a held-out part, not on cross-fitting.
    explains : tuple of str
        From ``EXPLANATIONS``: what its map rests on.
    extra : str or None
        Optional part of offnominal it needs.
    module, qualname, summary : str
        Where it lives and its first sentence; filled in by the index.
    """

    name: str
    title: str
    year: int
    url: str
    kind: str
    modality: str
    row: str | None = None
    setting: tuple[str, ...] = ("full-shot",)
    supervision: str = "normal-only"
    scope: str = "item"
    localises: bool = False
    streams: bool = False
    trains: bool = False
    explains: tuple[str, ...] = ("none",)
    extra: str | None = None
    module: str = ""
    qualname: str = ""
    summary: str = ""

    def __post_init__(self) -> None:
        for field, allowed in (("kind", KINDS), ("scope", SCOPES), ("supervision", SUPERVISIONS)):
            if getattr(self, field) not in allowed:
                raise ValueError(f"card {self.name}: {field} must be one of {', '.join(allowed)}")
        for field, allowed in (("setting", SETTINGS), ("explains", EXPLANATIONS)):
            if unknown := set(getattr(self, field)) - set(allowed):
                raise ValueError(f"card {self.name}: {field} has unknown {sorted(unknown)}")


def card(name: str, **facts: Any) -> Callable[[C], C]:
    """Attach a `Card` to a class, as its ``card`` attribute.

    Parameters
    ----------
    name : str
        Public handle.
    **facts
        The other fields of `Card`, literals only.
    """

    def attach(cls: C) -> C:
        summary = (cls.__doc__ or "").strip().splitlines()[:1]
        cls.card = Card(  # type: ignore[attr-defined]
            name=name,
            **facts,
            module=cls.__module__,
            qualname=cls.__qualname__,
            summary=summary[0] if summary else "",
        )
        return cls

    return attach


def read_cards(package: Path) -> list[Card]:
    """Read every card of a package's source without importing it.

    Parameters
    ----------
    package : Path
        The package's folder.

    Raises
    ------
    ValueError
        A card holds something other than literals, or two cards share a name within a modality.
    """
    found: dict[tuple[str, str], Card] = {}
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for entry in _cards_in(file, module):
            key = (entry.modality, entry.name)
            if key in found:
                raise ValueError(f"{entry.name}: two cards of this name for {entry.modality}")
            found[key] = entry
    return sorted(found.values(), key=lambda entry: (entry.modality, entry.name))


def _cards_in(file: Path, module: str) -> Iterator[Card]:
    source = file.read_text(encoding="utf-8")
    if "@card(" not in source:
        return
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            if not (isinstance(decorator, ast.Call) and getattr(decorator.func, "id", None) == "card"):
                continue
            try:
                facts = {str(word.arg): ast.literal_eval(word.value) for word in decorator.keywords}
                name = ast.literal_eval(decorator.args[0])
            except ValueError as error:
                raise ValueError(f"{file}:{decorator.lineno}: a card takes literals only") from error
            summary = (ast.get_docstring(node) or "").splitlines()[:1]
            yield Card(
                name=name, **facts, module=module, qualname=node.name, summary=summary[0] if summary else ""
            )


def index_text(package: Path) -> str:
    """Return the text of the committed index, ``cards.json``."""
    cards = [dataclasses.asdict(entry) for entry in read_cards(package)]
    return json.dumps(cards, ensure_ascii=False, indent=1) + "\n"


@cache
def catalogue() -> tuple[Card, ...]:
    """Every card, from the committed index; imports no method."""
    text = files("offnominal").joinpath("cards.json").read_text(encoding="utf-8")
    entries: list[dict[str, Any]] = json.loads(text)
    for entry in entries:
        entry.update({key: tuple(value) for key, value in entry.items() if isinstance(value, list)})
    return tuple(Card(**entry) for entry in entries)


def find(name: str, modality: str | None = None) -> Card:
    """Find a card by name.

    Raises
    ------
    UnknownName
        No such card, or several modalities have one and none was given.
    """
    named = [entry for entry in catalogue() if entry.name == name and modality in (None, entry.modality)]
    if len(named) == 1:
        return named[0]
    if named:
        several = ", ".join(entry.modality for entry in named)
        raise UnknownName(f"{name!r} exists for {several}: say which with modality=…")
    from difflib import get_close_matches

    names = sorted({entry.name for entry in catalogue() if modality in (None, entry.modality)})
    near = get_close_matches(name, names, n=3) or names
    where = f" for {modality}" if modality else ""
    raise UnknownName(f"no detector {name!r}{where}; there is {', '.join(near)} (offnominal catalogue)")
