"""Whatever holds rows is read alike, and what is wrong is said with file, row and column."""

from __future__ import annotations

import datetime
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from offnominal.core.errors import BadSource, ExtraMissing
from offnominal.core.source import Source
from offnominal.data import Sql, open_source, tables
from offnominal.data.tables import Column, files
from offnominal.data.tables.limits import TableLimits

WHEN = [datetime.datetime(2024, 1, day, 12, tzinfo=datetime.UTC) for day in (1, 2, 3)]
FRAME = pl.DataFrame(
    {"x": [1.5, None, 3.0], "n": [1, 2, 3], "kind": ["a", "b", None], "when": WHEN, "ok": [True, False, True]}
)
NUMBERS = np.array([[1.5, 1, 1704110400, 1], [np.nan, 2, 1704196800, 0], [3, 3, 1704283200, 1]])


def _check(source: Any) -> None:
    rows = source.rows(range(3))
    assert [(column.name, column.kind) for column in rows.columns] == [
        ("x", "number"), ("n", "number"), ("kind", "category"), ("when", "date"), ("ok", "number"),
    ]  # fmt: skip
    np.testing.assert_array_equal(rows.numbers, NUMBERS)
    assert rows.words.tolist() == [["a"], ["b"], [None]]


def test_frames_files_and_queries_give_the_same_rows(tmp_path: Path) -> None:
    FRAME.write_csv(tmp_path / "t.csv")
    FRAME.write_csv(tmp_path / "semicolon.csv", separator=";", include_bom=True)
    FRAME.write_csv(tmp_path / "t.tsv", separator="\t")
    FRAME.write_parquet(tmp_path / "t.parquet")
    FRAME.write_ipc(tmp_path / "t.arrow")
    for name in ("t.csv", "semicolon.csv", "t.tsv", "t.parquet", "t.arrow"):
        _check(tables(tmp_path / name))
        _check(open_source(str(tmp_path / name), "table"))
    _check(tables(FRAME))
    _check(tables(FRAME.lazy()))
    _check(tables(FRAME.to_arrow()))
    pandas = pd.DataFrame({name: FRAME[name].to_list() for name in FRAME.columns})
    _check(tables(pandas))
    _check(tables(FRAME.to_dicts()))
    _check(tables(FRAME.to_dict(as_series=False)))


def test_query_of_sqlite_reads_and_never_writes(tmp_path: Path) -> None:
    path = tmp_path / "data base.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table t (x real, kind text)")
        connection.executemany("insert into t values (?, ?)", [(1.0, "a"), (None, "b"), (3.0, None)])
    for url in (f"sqlite:///{path}", str(path)):
        rows = tables(Sql(url, "select * from t order by rowid")).rows(range(3))
        np.testing.assert_array_equal(rows.numbers[:, 0], [1, np.nan, 3])
        assert rows.words[:, 0].tolist() == ["a", "b", None]
    with pytest.raises(BadSource, match="readonly"):
        tables(Sql(str(path), "delete from t"))
    with pytest.raises(BadSource, match="no such table"):
        tables(Sql(str(path), "select * from u"))
    with pytest.raises(BadSource, match="no such database"):
        tables(Sql("sqlite:///nowhere.db", "select 1"))
    with pytest.raises((ExtraMissing, BadSource)) as caught:
        tables(Sql("postgresql://user:secret@nowhere.invalid/db", "select 1"))
    assert "secret" not in str(caught.value)


def test_arrays_and_lists_of_rows_have_no_names() -> None:
    array = np.arange(12.0).reshape(4, 3)
    for given in (array, array.astype(np.float32), array.astype(int), list(array), array.tolist()):
        source = tables(given)
        assert isinstance(source, Source)
        assert len(source) == 4
        assert not source.named
        assert source.columns == (Column("0"), Column("1"), Column("2"))
        np.testing.assert_array_equal(source.read(2).value, array[2])
        np.testing.assert_array_equal(source.subset([3, 1]).rows([0, 1]).numbers, array[[3, 1]])
        assert source.subset([3, 1]).subset([1]).references[0].item == "1"
    assert open_source(array, "vectors").modality == "table"


def test_rows_in_memory_are_not_copied() -> None:
    array = np.zeros((100, 3))
    assert np.shares_memory(tables(array).rows(range(10, 90)).numbers, array)


def test_references_are_a_sequence() -> None:
    source = tables(np.zeros((5, 2)), labels=[0, 1, -1, 0, 0], groups=list("aabbc"), products=["p"] * 5)
    references = source.references
    assert [reference.item for reference in references] == list("01234")
    assert (references[-1].group, references[1].label, references[1:3][1].product) == ("c", 1, "p")
    with pytest.raises(IndexError):
        references[5]


def test_columns_say_what_a_row_is_and_are_no_features() -> None:
    frame = FRAME.with_columns(
        bad=pl.Series([0, 1, None]), lot=pl.Series(["u", "u", "v"]), code=pl.Series([7, 8, 7])
    )
    source = tables(frame, labels="bad", groups="lot", drop=["when"], kinds={"code": "category"})
    assert source.labels.tolist() == [0, 1, -1]
    assert source.groups is not None
    assert source.groups.tolist() == ["u", "u", "v"]
    assert [column.name for column in source.columns] == ["x", "n", "kind", "ok", "code"]
    rows = source.rows([2, 0])
    assert rows.numbers.shape == (2, 3)
    assert rows.words.tolist() == [[None, "7"], ["a", "7"]]
    with pytest.raises(BadSource, match=r"no column 'colour'.*x, n"):
        tables(frame, drop=["colour"])
    with pytest.raises(BadSource, match=r"'kind'.*holds words"):
        tables(frame, kinds={"kind": "number"})


def test_large_parquet_is_read_in_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "a": random.normal(size=5_000),
            "w": random.choice(["x", "y"], 5_000),
            "b": random.normal(size=5_000),
        }
    )
    frame.write_parquet(tmp_path / "t.parquet", row_group_size=700)
    monkeypatch.setattr(files.ParquetRows, "span", 512)
    whole = tables(tmp_path / "t.parquet")
    pieces = tables(tmp_path / "t.parquet", limits=TableLimits(held=1_000))
    assert isinstance(pieces._store, files.ParquetRows)
    for positions in (range(5_000), range(300, 1_900), random.permutation(5_000)[:700], [4_999, 0]):
        one, two = whole.rows(positions), pieces.rows(positions)
        np.testing.assert_array_equal(one.numbers, two.numbers)
        np.testing.assert_array_equal(one.words, two.words)


BROKEN = {
    "long line": (b"a,b\n1,2\n3,4,5\n6,7\n", r"line 3.*3 fields, the header 2"),
    "late word": (
        b"a,b\n" + b"1,2\n" * 12_000 + b"1,oops\n",
        r"row 12000 \(line 12002\), column 'b': 'oops' is not a number",
    ),
    "latin": ("a,b\nü,1\n".encode("latin-1"), r"line 2: not text in UTF-8"),
    "null byte": (b"a,b\n1,\0,\n", r"line 2"),
    "empty": (b"", r"empty"),
    "header only": (b"a,b\n", r"no row"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_text_files_say_where(name: str, tmp_path: Path) -> None:
    data, said = BROKEN[name]
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(BadSource, match=said) as caught:
        tables(tmp_path / "t.csv")
    assert "t.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "empty list"),
        ([[1.0, 2.0], [3.0]], r"row 1: has shape \(1,\)"),
        ([[1.0, "a"], ["b", 2.0]], r"row 1, column '0': 'b' is a word, row 0 holds a number"),
        pytest.param([{"x": 1.0}, {"x": object()}], r"row 1, column 'x': holds object", id="an object"),
        (np.zeros(3), r"\(3,\) is no table"),
        (np.zeros((0, 3)), "no rows"),
        (np.zeros((2, 2), complex), "no numbers"),
        ("nowhere.csv", "cannot be read"),
        ("notes.docx", "not called like a table"),
        (3, "cannot come from int"),
        ({"x": [1, 2], "y": [1]}, "lengths 1, 2"),
        (pl.DataFrame({"x": [[1], [2]]}), "column 'x': holds values of type List"),
    ],
    ids=str,
)
def test_what_is_no_table_is_refused(given: Any, said: str) -> None:
    with pytest.raises(BadSource, match=said):
        tables(given)


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "t.parquet")
    data = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(BadSource, match=r"t\.parquet"):
        tables(tmp_path / "t.parquet")


def test_numbers_beyond_any_float_are_infinite() -> None:
    assert np.isinf(tables([{"x": 10**400}, {"x": 1}]).rows([0]).numbers[0, 0])


def test_time_zones_are_one_time() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=2))
    there = [moment.astimezone(zone) for moment in WHEN]
    np.testing.assert_array_equal(
        tables([{"t": moment} for moment in there]).rows(range(3)).numbers,
        tables(pd.DataFrame({"t": pd.to_datetime(WHEN).tz_convert("Asia/Tokyo")})).rows(range(3)).numbers,
    )
