from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from offnominal.core import errors
from offnominal.core.detections import Detection, Region
from offnominal.decide import benjamini_hochberg
from offnominal.detections import DetectionList, Detections

KEYS = ["item", "source", "index", "score", "p_value", "basis", "anomalous", "regions", "map", "error"]


def test_line_has_the_stated_keys_always() -> None:
    assert list(Detection("a", "b").to_json()) == KEYS
    assert list(Detection("a", "b", product="c").to_json()) == [*KEYS, "product"]


def test_line_and_back() -> None:
    record = Detection(
        "a/b.png", "parts", 3, 1.5, 0.01, "rank", True, (Region("box", [1, 2, 3, 4], 9.0),), product="nut",
        map=np.zeros((2, 2), np.float32), map_file="maps/a/b.tif",
    )  # fmt: skip
    again = Detection.from_json(json.loads(json.dumps(record.to_json())))
    assert again.to_json() == record.to_json()
    assert again.regions == record.regions
    assert again.map is None
    failed = Detection("a", "b", error="is no image")
    assert Detection.from_json(failed.to_json()) == failed


def test_lines_with_further_keys_are_read() -> None:
    assert Detection.from_json({"item": "a", "source": "b", "future": 1}) == Detection("a", "b")


def _list(p_values: list[float | None]) -> DetectionList:
    return DetectionList(Detection(str(n), "s", score=1.0, p_value=p) for n, p in enumerate(p_values))


@given(st.lists(st.none() | st.floats(1e-6, 1), max_size=40), st.floats(0.01, 0.5))
def test_control_fdr_is_benjamini_hochberg_over_those_with_a_p_value(
    p_values: list[float | None], q: float
) -> None:
    found = _list(p_values).control_fdr(q)
    given_ = sorted(p for p in p_values if p is not None)
    bounds = [q * k / len(given_) for k in range(1, len(given_) + 1)]
    assume(
        all(abs(p - bound) > 1e-9 for p, bound in zip(given_, bounds, strict=True))
    )  # no ties but for rounding
    largest = max((p for p, bound in zip(given_, bounds, strict=True) if p <= bound), default=-1.0)
    assert [entry.anomalous for entry in found] == [None if p is None else p <= largest for p in p_values]
    assert [entry.p_value for entry in found] == p_values


def test_control_fdr_agrees_with_scipy() -> None:
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(0).beta(0.5, 2, 200)
    np.testing.assert_array_equal(benjamini_hochberg(p, 0.1)[0], false_discovery_control(p) <= 0.1)


def test_list_of_records() -> None:
    records = DetectionList([Detection("a", "s", score=1.0, p_value=0.2), Detection("b", "s", error="bad")])
    np.testing.assert_array_equal(records.scores, [1.0, np.nan])
    np.testing.assert_array_equal(records.p_values, [0.2, np.nan])
    assert [entry.item for entry in records.errors] == ["b"]
    assert isinstance(records[:1], DetectionList)
    assert records[1].error == "bad"
    stream = Detections(iter(records))
    assert next(stream).item == "a"
    assert [entry.item for entry in stream.collect()] == ["b"]


@pytest.mark.parametrize(
    "error",
    [
        errors.BadItem("a.png", "is no image", "remove it"),
        errors.BadItems([errors.BadItem("a", "b", "c"), errors.BadItem("d", "e")]),
        errors.ExtraMissing("torch", "training"),
        errors.ModelRefused("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_cross_process_boundaries(error: Any) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert isinstance(error, errors.OffnominalError)


def test_many_bad_items_are_counted_not_all_shown() -> None:
    text = str(errors.BadItems([errors.BadItem(f"{n}.png", "is no image") for n in range(50)]))
    assert text.startswith("50 item(s)")
    assert "… and 30 more" in text
    assert "19.png" in text
    assert "20.png" not in text
