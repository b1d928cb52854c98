"""Tables: the same rows for people, for spreadsheets and on a terminal."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offnominal.report import Column, csv_text, markdown_table, print_table
from offnominal.report.table import number

ROWS = [
    {"detector": "patchcore", "auroc": 0.98765, "images": 12, "ok": True},
    {"detector": "a|b <i>*x*</i>", "auroc": float("nan"), "images": None, "ok": False},
]


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.98765, None, "0.9877"),
        (12.3456, None, "12.35"),
        (1234.56, None, "1235"),
        (7, None, "7"),
        (np.int64(7), None, "7"),
        (np.float32(0.5), None, "0.5000"),
        (0.0, None, "0"),
        (3e-7, None, "3e-07"),
        (-0.25, 1, "-0.2"),
        (math.inf, None, "∞"),
        (math.nan, None, "–"),
    ],
)
def test_numbers_are_written_for_people(value, digits, text):
    assert number(value, digits) == text


def test_markdown_is_aligned_and_escaped():
    columns = ["detector", Column("auroc", "AUROC", digits=3), "images", Column("ok", "works")]
    text = markdown_table(ROWS, columns)
    lines = text.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == [
        "detector",
        "AUROC",
        "images",
        "works",
    ]
    assert lines[1].count(":") == 2
    assert "| 0.988 |" in lines[2]
    assert "yes" in lines[2]
    assert r"a\|b &lt;i&gt;\*x\*&lt;/i&gt;" in lines[3]
    assert text.endswith("|\n")


def test_names_with_underscores_read_as_they_are():
    assert "magnetic_tile" in markdown_table([{"set": "magnetic_tile"}], ["set"])
    assert r"\_x\_" in markdown_table([{"set": "_x_"}], ["set"])


def test_percentages_and_missing_keys():
    text = markdown_table([{"rate": 0.0125}, {}], [Column("rate", percent=True)])
    assert "1.2 %" in text
    assert "–" in text


def test_a_table_without_rows_is_its_heading():
    assert markdown_table([], ["a"]).splitlines() == ["| a   |", "| --- |"]
    assert csv_text([], ["a"]) == "a\n"


SIGNS = "aé漢|,;\"'\\\n\r\t=-+@<>&*_`~[] \u202e\x00"
cells = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_infinity=False, allow_nan=False), st.text(SIGNS)
)


@settings(deadline=None)  # the first example also pays for imports
@given(st.lists(st.fixed_dictionaries({"a": cells, "b": cells}), max_size=5))
def test_csv_reads_back(rows):
    read = list(csv.DictReader(io.StringIO(csv_text(rows, ["a", "b"]), newline="")))
    assert len(read) == len(rows)
    for row, back in zip(rows, read, strict=True):
        for key, value in row.items():
            if value is None:
                assert back[key] == ""
            elif isinstance(value, bool):
                assert back[key] == str(value).lower()
            elif isinstance(value, int | float):
                assert float(back[key]) == float(value)
            else:
                assert back[key].removeprefix("'") == value.removeprefix("'")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-x", "@sum", "\tx", "\r=x"])
def test_a_spreadsheet_runs_no_name_as_a_formula(text):
    (row,) = csv.DictReader(io.StringIO(csv_text([{"a": text}], ["a"]), newline=""))
    assert row["a"] == f"'{text}"
    (row,) = csv.DictReader(io.StringIO(csv_text([{"a": -1.5}], ["a"])))
    assert row["a"] == "-1.5"


@settings(deadline=None)  # the first example also pays for imports
@given(st.lists(st.fixed_dictionaries({"a": cells, "b": cells}), max_size=5))
def test_markdown_keeps_its_form_with_any_text(rows):
    lines = markdown_table(rows, ["a", "b"]).split("\n")
    assert len(lines) == len(rows) + 3
    for line in lines[:-1]:
        assert line.replace("\\\\", "").replace("\\|", "").count("|") == 3


def test_the_terminal_shows_each_row_on_a_line_and_is_not_steered():
    file = io.StringIO()
    rows = [{"name": "[red]x[/red] \x1b[2J\u202e", "score": 1.5}, {"name": "n" * 200, "score": None}]
    print_table(rows, ["name", "score"], title="[b]Found[/b]", file=file)
    text = file.getvalue()
    assert "[b]Found[/b]" in text
    assert "[red]x[/red] \\u001b[2J\\u202e" in text
    assert "\x1b" not in text
    assert any("n" * 200 in line and "–" in line for line in text.splitlines())
