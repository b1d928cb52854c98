from __future__ import annotations

import json
from pathlib import Path

import pytest

from offnominal.core.card import Card, UnknownName, card, catalogue, find, index_text, read_cards

GOOD = """
from offnominal.core.card import card
@card("{name}", title="A title", year=2000, url="https://example.org", kind="detector", modality="{modality}")
class Thing:
    '''What it does.

    More.
    '''
"""


def _package(root: Path, **files: str) -> Path:
    package = root / "pack"
    package.mkdir()
    for name, text in files.items():
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    return package


def test_cards_are_read_without_importing(tmp_path: Path) -> None:
    text = GOOD.format(name="one", modality="image") + "\nraise SystemExit('imported')\n"
    (found,) = read_cards(_package(tmp_path, a=text))
    assert (found.name, found.module, found.qualname, found.summary) == (
        "one",
        "pack.a",
        "Thing",
        "What it does.",
    )


def test_index_is_sorted_json(tmp_path: Path) -> None:
    package = _package(
        tmp_path,
        a=GOOD.format(name="zz", modality="image"),
        b=GOOD.format(name="aa", modality="image"),
        c=GOOD.format(name="mm", modality="audio"),
    )
    assert [entry["name"] for entry in json.loads(index_text(package))] == ["mm", "aa", "zz"]


def test_two_of_one_name_are_an_error_within_a_modality_only(tmp_path: Path) -> None:
    one = GOOD.format(name="one", modality="image")
    package = _package(tmp_path, a=one, b=GOOD.format(name="one", modality="table"))
    assert len(read_cards(package)) == 2
    (package / "c.py").write_text(one, encoding="utf-8")
    with pytest.raises(ValueError, match="one: two cards"):
        read_cards(package)


def test_what_is_no_literal_is_an_error_with_its_place(tmp_path: Path) -> None:
    text = GOOD.format(name="one", modality="image").replace("year=2000", "year=1990 + TEN")
    with pytest.raises(ValueError, match=r"a\.py:\d+: a card takes literals only"):
        read_cards(_package(tmp_path, a=text))


@pytest.mark.parametrize(
    ("field", "value"),
    [("kind", "x"), ("scope", "x"), ("supervision", "x"), ("setting", ("x",)), ("explains", ("x",))],
)
def test_unknown_words_are_an_error(field: str, value: object) -> None:
    facts = {"title": "A", "year": 2000, "url": "u", "kind": "detector", "modality": "image"}
    with pytest.raises(ValueError, match=f"card one: {field}"):
        Card(name="one", **{**facts, field: value})  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        card("one", **facts, colour="red")(type("Thing", (), {}))


def test_find_says_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"title": "A", "year": 2000, "url": "u", "kind": "detector"}
    cards = tuple(Card(name="forest", modality=modality, **facts) for modality in ("table", "series"))  # type: ignore[arg-type]
    monkeypatch.setattr("offnominal.core.card.catalogue", lambda: cards)
    assert find("forest", "table").modality == "table"
    with pytest.raises(UnknownName, match="table, series: say which with modality"):
        find("forest")
    with pytest.raises(UnknownName, match="no detector 'forst'; there is forest"):
        find("forst")
    with pytest.raises(UnknownName, match="for image"):
        find("forest", "image")


def test_catalogue_cards_can_be_hashed_and_compared() -> None:
    assert len(set(catalogue())) == len(catalogue())
