"""Mixed columns become numbers in a way that is stored, checked and the same for each row."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import offnominal as off
from offnominal.core.errors import BadItems, BadSource
from offnominal.data import tables
from offnominal.table.encoding import ONE_HOT, Encoding
from offnominal.table.fit_encoding import LEVELS, EncodingFit
from offnominal.table.text_hash import hashed_trigrams


def _fitted(items: Any, **options: Any) -> Encoding:
    source = tables(items)
    asked = {"scaling": "standard", "missing": "refuse", "total": len(source), "seed": 0} | options
    fit = EncodingFit(source.columns, source.named, **asked)
    for first in range(0, len(source), 7):
        fit.absorb(source.rows(range(first, min(first + 7, len(source)))))
    return fit.finish()


def _applied(encoding: Encoding, items: Any) -> tuple[np.ndarray, dict[int, str]]:
    source = tables(items)
    rows = source.rows(range(len(source)))
    return encoding.apply(rows, encoding.order(rows.columns, rows.named, "t"))


def _mixed(n: int = 60) -> pl.DataFrame:
    random = np.random.default_rng(3)
    return pl.DataFrame(
        {
            "amount": random.lognormal(2, 1, n),
            "kind": random.choice(["card", "cash", "wire"], n, p=[0.6, 0.3, 0.1]),
            "when": [datetime.datetime(2024, 1, 1) + datetime.timedelta(hours=int(h)) for h in range(n)],
            "note": [f"paid to the shop in street {i} {'ab' * (i % 5)}" for i in range(n)],
        }
    )


def test_numbers_are_scaled_as_asked() -> None:
    values = np.random.default_rng(0).normal([5, -2], [3, 0.1], (100, 2))
    standard, _ = _applied(_fitted(values), values)
    np.testing.assert_allclose(standard, (values - values.mean(0)) / values.std(0), atol=1e-12)
    robust, _ = _applied(_fitted(values, scaling="robust"), values)
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0)
    np.testing.assert_allclose(robust, (values - middle) / ((high - low) / 1.3489795), atol=1e-12)
    np.testing.assert_array_equal(_applied(_fitted(values, scaling="none"), values)[0], values)


def test_a_column_that_never_varied_still_shows_a_change() -> None:
    values = np.full((20, 2), 7.0)
    values[:, 1] = 0.0
    encoding = _fitted(values)
    assert (_applied(encoding, values)[0] == 0).all()
    np.testing.assert_allclose(_applied(encoding, np.array([[14.0, 2.0]]))[0], [[1.0, 2.0]])


def test_categories_have_a_column_each_and_one_for_the_rest() -> None:
    words = ["a"] * 5 + ["b"] * 3 + [f"rare {i:03}" for i in range(40)]
    encoding = _fitted([{"k": word} for word in words])
    assert encoding.columns[0].levels[:2] == ("a", "b")
    assert encoding.width == LEVELS + 1
    matrix, bad = _applied(encoding, [{"k": "b"}, {"k": "never seen"}, {"k": "rare 039"}])
    assert not bad
    assert matrix[0].nonzero()[0].tolist() == [1]
    assert matrix[1].nonzero()[0].tolist() == matrix[2].nonzero()[0].tolist() == [LEVELS]
    assert np.linalg.norm(matrix[0] - matrix[1]) == pytest.approx(1.0)
    assert matrix.max() == ONE_HOT


def test_missing_values_are_refused_or_imputed_and_marked() -> None:
    rows = [{"x": float(i), "k": "a"} for i in range(9)] + [{"x": None, "k": None}]
    plain = _fitted(rows[:9])
    _, bad = _applied(plain, rows)
    assert bad == {9: "has no value in column 'x'"}
    encoding = _fitted(rows, missing="impute", scaling="none")
    matrix, bad = _applied(encoding, rows)
    assert not bad
    assert matrix[9].tolist() == [4.0, 1.0, 0.0, ONE_HOT]
    assert (matrix[:9, 1] == 0).all()


def test_infinities_are_refused_whatever_is_asked() -> None:
    values = np.zeros((10, 3))
    values[4, 1] = -np.inf
    for missing in ("refuse", "impute"):
        _, bad = _applied(_fitted(np.zeros((10, 3)), missing=missing), values)
        assert bad == {4: "holds infinity in column '1'"}
    with pytest.raises(BadItems, match=r"4: holds infinity in column '1'"):
        off.make("knn").fit(values)


def test_encoding_is_stored_whole() -> None:
    encoding = _fitted(_mixed(), missing="impute")
    again = Encoding.from_json(encoding.to_json())
    assert again.columns == encoding.columns
    np.testing.assert_array_equal(_applied(again, _mixed())[0], _applied(encoding, _mixed())[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame.drop("kind"), "lacks 'kind'"),
        (lambda frame: frame.rename({"kind": "sort"}), "lacks 'kind' and has 'sort' more"),
        (lambda frame: frame.with_columns(extra=pl.lit(1.0)), "has 'extra' more"),
        (
            lambda frame: frame.with_columns(amount=pl.lit("much")),
            "'amount': holds words, .* fitted on numbers",
        ),
        (lambda frame: frame.with_columns(when=pl.lit(3.0)), "'when': holds numbers, .* fitted on dates"),
    ],
)
def test_changed_columns_are_one_clear_error(change: Any, said: str, tmp_path: Path) -> None:
    frame = _mixed()
    detector = off.make("knn").fit(frame)
    detector.save(tmp_path / "model")
    for model in (detector, off.load(tmp_path / "model")):
        with pytest.raises(BadSource, match=said):
            model.anomaly_score(change(frame))


def test_order_of_columns_does_not_count() -> None:
    frame = _mixed()
    detector = off.make("knn").fit(frame)
    turned = frame.select(reversed(frame.columns))
    np.testing.assert_allclose(detector.anomaly_score(turned), detector.anomaly_score(frame), rtol=1e-12)


def test_arrays_match_by_place() -> None:
    values = np.random.default_rng(0).normal(size=(50, 3))
    detector = off.make("ecod").fit(pl.DataFrame(values, schema=["a", "b", "c"]))
    np.testing.assert_array_equal(
        detector.anomaly_score(values), detector.anomaly_score(pl.DataFrame(values, schema=["a", "b", "c"]))
    )
    with pytest.raises(BadSource, match="2 columns, the model was fitted on 3"):
        detector.anomaly_score(values[:, :2])


def test_a_strange_text_stands_out_and_is_named() -> None:
    frame = _mixed(200)
    detector = off.make("knn").fit(frame)
    odd = frame.head(3).with_columns(note=pl.lit("###### 0xDEADBEEF ;;;; QQQQ ######"))
    assert detector.anomaly_score(odd).min() > np.quantile(detector.anomaly_score(frame), 0.95)
    usual = np.stack(list(detector.anomaly_map(frame.head(3))))
    assert (np.stack(list(detector.anomaly_map(odd)))[:, 3] > 2 * usual[:, 3]).all()


def test_hashed_text_has_length_one_and_forgets_case() -> None:
    found = hashed_trigrams(["Hello", "hello", "", None, "other words"], 32)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 1, 0, 0, 1])
    np.testing.assert_array_equal(found[0], found[1])


def test_huge_numbers_stay_finite() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(60, 4)) * np.array([1, 1e150, 1e-200, 1e9])
    for card in off.catalogue():
        if card.modality == "table" and card.kind == "detector":
            detector = off.make(card.name, "table").fit(values)
            assert np.isfinite(detector.anomaly_score([values[0], np.full(4, 1e300)])).all(), card.name
