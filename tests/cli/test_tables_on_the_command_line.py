"""The main job on a table, from the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from offnominal.cli.column_maps import ColumnMaps
from offnominal.cli.opening import looks_like

pytest.importorskip("polars")
COLUMNS = ["temperature", "pressure", "flow"]


def _write(path: Path, count: int, seed: int, **changed: tuple[int, object]) -> Path:
    values = np.random.default_rng(seed).normal([60, 5, 30], [4, 0.3, 5], (count, 3)).round(3).tolist()
    for column, (row, value) in changed.items():
        values[row][COLUMNS.index(column)] = value
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *values])
    return path


@pytest.fixture
def normal(tmp_path: Path) -> Path:
    return _write(tmp_path / "normal.csv", 300, 0)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return _write(tmp_path / "new.csv", 40, 1, temperature=(17, 99.0), pressure=(30, 9.5), flow=(5, ""))


@pytest.fixture
def table_model(run, normal: Path, tmp_path: Path) -> Path:
    run("fit", normal, "--out", tmp_path / "m")
    return tmp_path / "m"


def _records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text("utf-8").splitlines()]


def _lines(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_a_table_is_fitted_and_detected_without_saying_what_it_is(run, table_model, new, tmp_path) -> None:
    said = run("detect", table_model, new, "--out", tmp_path / "found", "--report", code=3).stdout
    assert "39 items" not in said
    assert "40 items" in said
    records = _records(tmp_path / "found")
    assert [record["item"] for record in records] == [str(row) for row in range(40)]
    assert [record["index"] for record in records if record["anomalous"]][:1] == [17]
    assert records[17]["regions"][0]["where"] == "temperature"
    assert records[30]["regions"][0] == {
        "kind": "column",
        "where": "pressure",
        "score": pytest.approx(records[30]["regions"][0]["score"]),
    }
    assert "flow" in records[5]["error"]


def test_maps_of_rows_are_one_table_in_the_order_of_the_rows(run, table_model, new, tmp_path) -> None:
    out = tmp_path / "found"
    run("detect", table_model, new, "--out", out, code=3)
    off = [record["item"] for record in _records(out) if record["anomalous"]]
    lines = _lines(out / "maps.csv")
    assert lines[0] == ["item", *COLUMNS]
    assert [line[0] for line in lines[1:]] == off
    assert max(COLUMNS, key=lambda name: float(lines[1][lines[0].index(name)])) == "temperature"

    run("detect", table_model, new, "--out", out, "--maps", "all", code=3)  # goes on: the others' maps lack
    lines = _lines(out / "maps.csv")
    assert [line[0] for line in lines[1:]] == [str(row) for row in range(40) if row != 5]
    assert {record["map"] for record in _records(out) if record["error"] is None} == {"maps.csv"}

    run("detect", table_model, new, "--out", out, "--maps", "none", "--restart", code=3)
    assert not (out / "maps.csv").exists()
    assert not (out / "maps").exists()


def test_a_line_that_a_kill_cut_off_is_written_again(tmp_path) -> None:
    maps = ColumnMaps(tmp_path, ["=a", 'b, "c"'])
    for item in ("2", "0", "1"):
        maps.add(item, np.array([float(item), 0.5], np.float32))
    whole = maps.path.read_bytes()
    maps.path.write_bytes(whole[:-2])
    assert maps.items() == {"2", "0"}
    maps.settle({"0": 0, "1": 1, "2": 2})
    maps.add("1", np.array([1.0, 0.5], np.float32))
    lines = _lines(maps.path)
    assert lines == [["item", "'=a", 'b, "c"'], ["0", "0", "0.5"], ["2", "2", "0.5"], ["1", "1", "0.5"]]


def test_explain_names_a_row_as_the_results_do(run, table_model, new, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = run("explain", table_model, f"{new}#17").stdout
    assert said.startswith("17 is off-normal")
    (line,) = [line for line in said.splitlines() if line.startswith("temperature")]
    assert "99" in line
    assert "stands out" in line
    told = json.loads(run("--json", "explain", table_model, f"{new}#17").stdout)
    assert set(told["columns"]) == set(COLUMNS)
    assert max(told["columns"], key=told["columns"].get) == "temperature"
    assert "numbered from 0" in run("explain", table_model, f"{new}#40", code=1).stderr
    assert "new.csv#0" in run("explain", table_model, new, code=1).stderr
    assert "flow" in run("explain", table_model, f"{new}#5", code=1).stderr
    assert not (tmp_path / "explained").exists()


def test_explain_compares_with_normal_rows(run, table_model, normal, new) -> None:
    said = run("explain", table_model, f"{new}#17", "--normal", normal).stdout
    assert "The nearest normal rows" in said
    change = said[said.index("The smallest change") :]
    assert "temperature" in change
    told = json.loads(run("--json", "explain", table_model, f"{new}#17", "--normal", normal).stdout)
    assert [entry["distance"] for entry in told["nearest"]] == sorted(
        entry["distance"] for entry in told["nearest"]
    )
    (found,) = [c for c in told["counterfactual"]["changes"] if c["column"] == "temperature"]
    assert found["value"] == 99
    assert found["becomes"] < 99
    assert "nothing.csv" in run("explain", table_model, f"{new}#17", "--normal", "nothing.csv", code=1).stderr


def test_a_detector_without_columns_has_no_maps(run, normal, new, tmp_path) -> None:
    run("fit", normal, "--detector", "lof", "--out", tmp_path / "lof")
    run("detect", tmp_path / "lof", new, "--out", tmp_path / "found", "--maps", "all", "--report", code=3)
    assert not (tmp_path / "found" / "maps.csv").exists()
    assert "Columns that stand out" not in (tmp_path / "found" / "report.html").read_text("utf-8")


def test_the_page_of_a_table_lists_rows_with_their_columns(run, table_model, new, tmp_path) -> None:
    run("detect", table_model, new, "--out", tmp_path / "found", "--report", code=3)
    page = (tmp_path / "found" / "report.html").read_text("utf-8")
    assert 'id="gallery"' not in page
    assert "Columns that stand out" in page
    assert '<bdi dir="ltr">temperature</bdi> <b>99</b>' in page
    assert 'id="h-regions"' not in page
    assert "Boxes" not in page


def test_a_manifest_of_images_is_no_table(tmp_path) -> None:
    for name, text, modality in (
        ("a.csv", "path,label\nx.png,0\n", "image"),
        ("b.csv", "Temperature;Path\n1;x.png\n", "image"),
        ("c.csv", "temperature,pathology\n1,2\n", "table"),
        ("d.jsonl", '{"path": "x.png"}\n', "image"),
        ("e.jsonl", '{"temperature": 1}\n', "table"),
        ("f.json", "[]", "image"),
    ):
        (tmp_path / name).write_text(text, "utf-8")
        assert looks_like(str(tmp_path / name)) == modality, name
    assert looks_like("nowhere.parquet") == "table"
    assert looks_like("parts/good") == "image"
