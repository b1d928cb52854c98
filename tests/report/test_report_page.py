"""The report: one file, safe with hostile names, bounded, and whole with whatever a run brings."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from offnominal.core.detections import Detection, Region
from offnominal.core.errors import BadItem
from offnominal.report import write_report

VOID = {"meta", "input", "br", "img", "link", "hr"}
OPTIONAL_SCHEMES = ("data:", "#")


class Page(HTMLParser):
    """Checks that tags nest and gathers what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} repeats an attribute"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in self.raw:
            self.raw[self.open[-1]].append(data)
        else:
            self.text += data

    def all(self, tag, **wanted):
        return [
            attrs
            for name, attrs in self.tags
            if name == tag and all(attrs.get(key.strip("_")) == value for key, value in wanted.items())
        ]


def record(place=0, *, name=None, score=None, **facts):
    score = float(place) if score is None else score
    return Detection(name or f"part_{place:04}.png", "parts", place, score=score, **facts)


def judged(place, anomalous, **facts):
    return record(place, p_value=0.005 if anomalous else 0.4, basis="rank", anomalous=anomalous, **facts)


def picture(_name, side=24):
    return np.full((side, side + 8, 3), 90, dtype=np.uint8)


def hot_map(level, shape=(24, 32)):
    heat = np.full(shape, 0.1, dtype=np.float32)
    heat[5:9, 6:12] = level
    return heat


@pytest.fixture
def write(tmp_path):
    def _write(records, **facts):
        facts = {"read_image": picture, "summary": {"modality": "image"}} | facts
        path = write_report(tmp_path / "report.html", records, **facts)
        text = path.read_text(encoding="utf-8")
        return text, Page(text)

    return _write


DECISION = {"n": 200, "asked_false_alarm_rate": 0.01, "threshold": 1.5, "basis": "rank"}


def full_run():
    records = [judged(place, place >= 10, map=hot_map(place / 6)) for place in range(12)]
    records[11] = judged(11, True, map=hot_map(2.0), regions=(Region("box", [6, 5, 12, 9], 2.0),))
    records.append(Detection("torn.png", "parts", error="the file ends early; copy it again"))
    summary = {
        "modality": "image",
        "title": "parts/new",
        "detector": "patchcore",
        "card": {"title": "A paper", "year": 2022, "url": "https://example.org/paper"},
        "parameters": {"neighbours": 9, "limit": float("nan")},
        "encoder": {"name": "net", "fingerprint": "ab" * 32},
        "decision": DECISION,
        "calibration_scores": np.linspace(0, 2, 200).tolist(),
        "times": {"detect": 2.5},
        "versions": {"python": "3.11"},
        "command": "offnominal detect model parts/new --report",
        "notes": ["the defects are planted"],
    }
    return records, summary


def test_the_page_is_self_contained(write):
    records, summary = full_run()
    text, page = write(records, summary=summary)
    for tag, attrs in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "poster", "data", "action"):
            value = attrs.get(name)
            if value is None or (tag == "a" and name == "href"):
                continue
            assert value.startswith(OPTIONAL_SCHEMES), f"{tag} fetches {value[:60]}"
        assert not [name for name in attrs if name.startswith("on")]
        assert "style" not in attrs
    assert not page.all("link")
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", page.raw["style"][0])
    assert [link["href"] for link in page.all("a") if not link["href"].startswith("#")] == [
        "https://example.org/paper"
    ]


def test_the_policy_allows_this_style_and_script_and_nothing_else(write):
    _, page = write([judged(1, True)])
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for kind, source in (("style", page.raw["style"][0]), ("script", page.raw["script"][-1])):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"


def test_the_verdict_is_said_in_words(write):
    records, summary = full_run()
    _, page = write(records, summary=summary)
    words = page.text.replace("\N{NON-BREAKING HYPHEN}", "-").replace("\N{NO-BREAK SPACE}", " ")
    assert "2 of 12 images are off-normal at a false-alarm rate of 1 %" in words
    assert "200 images known to be normal" in words
    assert "The defects are planted." in words
    assert "copy it again" in words
    assert "x 6 to 12, y 5 to 9" in words


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([], "There were no images to look at"),
        ([Detection("a", "s", error="torn")], "The one image could not be read"),
        ([Detection(name, "s", error="torn") for name in "ab"], "None of 2 images could be read"),
        ([record(1)], "1 image was scored and ranked"),
        ([record(1), record(2)], "2 images were scored and ranked"),
        ([judged(1, True)], "1 of 1 image is off-normal"),
        ([judged(1, False)], "The one image is normal"),
        ([judged(1, False), judged(2, False)], "None of 2 images is off-normal"),
        ([judged(1, True), record(2)], "1 of 1 image with a verdict is off-normal"),
    ],
)
def test_headlines_hold_for_every_kind_of_run(write, records, said):
    _, page = write(records)
    assert said in page.text.replace("\N{NON-BREAKING HYPHEN}", "-").replace("\N{NO-BREAK SPACE}", " ")


def test_a_declared_threshold_and_a_tail_are_told_apart(write):
    _, page = write(
        [
            record(1, basis="declared", anomalous=True),
            record(2, basis="tail", p_value=1e-6, anomalous=True),
            record(3),
        ]
    )
    assert "declared, not learned" in page.text
    assert "tail fitted" in page.text
    assert "offnominal calibrate" in page.text
    assert "< 0.0001" in page.text


HOSTILE = [
    "<script>alert(1)</script>.png",
    '"><img src=x onerror=alert(1)>.png',
    "</style><h1>x.png",
    "'; alert(1); '.png",
    "{{ 7 * 7 }}{% raw %}.png",
    "--><!--.png",
    "javascript:alert(1)",
    "\u202egnp.exe\x07\x1b[31m\n.png",
    "half \ud800 pair.png",
]


def test_hostile_names_stay_text(write):
    records = [
        judged(
            place,
            True,
            name=name,
            product=name,
            regions=(Region("token", name, 1.0),),
            map=hot_map(1.0 + place),
        )
        for place, name in enumerate(HOSTILE)
    ]
    records += [Detection(f"bad {name}", name, error=f"{name}; {name}") for name in HOSTILE]
    summary = dict.fromkeys(("title", "source", "model", "detector", "started", "command"), HOSTILE[0])
    summary |= {
        "parameters": {HOSTILE[1]: HOSTILE[2]},
        "notes": HOSTILE,
        "card": {"title": HOSTILE[0], "url": "javascript:alert(1)"},
        "decision": {"note": HOSTILE[1], "products": {HOSTILE[0]: {"n": 3}}},
    }
    text, page = write(records, summary=summary)
    assert len(page.all("script")) == 2
    assert len(page.all("style")) == 1
    assert not page.all("img")
    assert len(page.all("h1")) == 1
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert all(link["href"].startswith("#") for link in page.all("a"))
    assert "{{ 7 * 7 }}" in page.text
    assert "49" not in [row for row in page.text.split() if row == "49"]
    assert not set(text) & {"\u202e", "\x07", "\x1b", "\ud800"}
    assert json.loads(page.raw["script"][0])["title"] == HOSTILE[0]


def test_names_in_any_script_are_kept(write):
    names = ["ネジ/傷.png", "деталь №7.png", "قطعة.png", "héllo wörld 🔩.png"]
    _, page = write([judged(place, True, name=name) for place, name in enumerate(names)])
    assert all(name in page.text for name in names)
    assert ("html", {"lang": "en"}) in page.tags


def test_the_data_for_machines_is_strict_json(write):
    records, summary = full_run()
    summary["decision"] = DECISION | {"threshold": float("inf"), "n": np.int64(7)}
    _, page = write(records, summary=summary)

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    told = json.loads(page.raw["script"][0], parse_constant=refuse)
    assert told["counts"] == {"anomalous": 2, "normal": 10, "none": 0, "bad": 1}
    assert told["parameters"] == {"neighbours": 9, "limit": None}
    assert told["decision"]["n"] == 7


def test_every_picture_has_words_and_every_control_a_name(write):
    records, summary = full_run()
    _, page = write(records, summary=summary)
    for tag, attrs in page.tags:
        if tag == "svg":
            assert (
                attrs.get("aria-hidden") == "true" or attrs.get("aria-label") or attrs.get("aria-labelledby")
            )
    ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))
    for _, attrs in page.tags:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set((attrs.get(name) or "").split()) <= set(ids)
        if (attrs.get("href") or "").startswith("#"):
            assert attrs["href"][1:] in ids
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_cards_come_in_order_with_one_scale_and_their_boxes(write):
    records, summary = full_run()
    _, page = write(records, summary=summary, pictures=3, typical=2)
    cards = [attrs for attrs in page.all("li") if "data-rank" in attrs]
    assert [card["data-rank"] for card in cards[:3]] == ["1", "2", "3"]
    assert [card["data-state"] for card in cards] == ["anomalous", "anomalous", "normal", "normal", "normal"]
    pictures = page.all("image")
    assert len([shown for shown in pictures if shown.get("class") == "heat"]) == 5
    boxes = page.all("rect", x="6", y="5", width="6", height="4")
    assert len(boxes) == 2  # the frame and its rim
    assert len(page.all("lineargradient")) == 1


def test_without_maps_or_pictures_the_page_is_still_whole(write):
    records = [judged(place, place > 3) for place in range(6)]
    _, page = write(records)
    assert len(page.all("image")) == 6
    assert not page.all("image", class_="heat")
    assert not page.all("input", type="range")
    _, page = write(records, read_image=None)
    assert not page.all("image")
    assert len([attrs for attrs in page.all("tr") if "data-rank" in attrs]) == 6


def test_a_picture_that_is_gone_leaves_its_place_and_reason(write):
    def gone(name):
        raise BadItem(name, "no such file")

    _, page = write([judged(1, True, map=hot_map(1.0))], read_image=gone)
    assert "cannot be read any more" in page.text
    assert page.all("image", class_="heat")


def test_maps_are_read_back_only_for_pictured_records(write):
    asked = []

    def read_map(found):
        asked.append(found.item)
        return hot_map(found.score)

    records = [judged(place, place > 8, map_file=f"maps/{place}.tif") for place in range(100)]
    _, page = write(records, read_map=read_map, pictures=4, typical=1)
    assert len(asked) == 5
    assert len(page.all("image", class_="heat")) == 5


@pytest.mark.parametrize("level", [0.0, 1.0, -3.0, 1e30])
def test_constant_scores_and_maps_make_no_trouble(write, level):
    heat = np.full((16, 16), level, dtype=np.float32)
    text, _ = write([judged(place, False, score=level, map=heat) for place in range(5)])
    assert "nan" not in re.sub(r'data:[^"]*|<script[\s\S]*?</script>', "", text).lower()


@pytest.mark.parametrize("shape", [(9, 9), (9, 9, 1), (9, 9, 4), (9, 9, 7), (1, 300), (300, 1, 3)])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "bool"])
def test_pictures_of_any_kind_are_shown(write, shape, kind):
    _, page = write(
        [judged(1, True, map=hot_map(1.0))],
        read_image=lambda name: np.ones(shape, dtype=kind) * np.ones((), kind),
    )
    assert len(page.all("image")) == 2


def test_thousands_of_items_stay_small(write):
    def many():
        for place in range(4000):
            heat = hot_map(place / 1000) if place % 50 == 0 or place > 3930 else None
            yield judged(place, place > 3900, map=heat)

    text, page = write(many())
    assert len(page.all("li", class_="card is-normal")) == 4
    assert len(page.all("li", class_="card is-anomalous")) == 60
    assert len([attrs for attrs in page.all("tr") if "data-rank" in attrs]) == 4000
    assert len(text.encode()) < 2.5e6


def test_pictures_and_maps_of_noise_are_bounded_too(write):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (500, 500, 3), dtype=np.uint8)
    heat = rng.random((300, 300), dtype=np.float32)
    few, _ = write(
        [judged(place, True, map=heat) for place in range(5)], read_image=lambda name: noise, pictures=1
    )
    more, _ = write([judged(place, True, map=heat) for place in range(5)], read_image=lambda name: noise)
    each = (len(more.encode()) - len(few.encode())) / 4
    assert 64 * each < 6e6


def test_the_table_says_what_it_leaves_out(write):
    _, page = write([judged(place, False) for place in range(30)], listed=20)
    assert len([attrs for attrs in page.all("tr") if "data-rank" in attrs]) == 20
    assert "10 more, of lower rank" in page.text


def test_a_failed_write_leaves_the_old_report(tmp_path):
    path = write_report(tmp_path / "report.html", [judged(1, True)], summary={})
    before = path.read_bytes()

    def breaks(_name):
        raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError, match="plug"):
        write_report(path, [judged(1, True)], read_image=breaks, summary={})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_the_same_run_gives_the_same_bytes(tmp_path):
    records, summary = full_run()
    first = write_report(tmp_path / "a.html", records, read_image=picture, summary=summary)
    again = write_report(tmp_path / "b.html", iter(records), read_image=picture, summary=summary)
    assert first.read_bytes() == again.read_bytes()
