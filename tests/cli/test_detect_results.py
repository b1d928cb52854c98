"""The folder of results: whole records whatever happens, and a killed run goes on."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import offnominal as off
from offnominal.cli.results import map_name
from offnominal.core.detections import Detection
from offnominal.data import images

KEYS = {"item", "source", "index", "score", "p_value", "basis", "anomalous", "regions", "map", "error"}


def lines_of(folder: Path) -> list[dict]:
    text = (folder / "results.jsonl").read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_detect_writes_records_maps_run_and_report(run, parts, fitted, tmp_path) -> None:
    out = tmp_path / "r"
    said = run("detect", fitted, parts / "new", "--out", out, "--report", code=3)
    found = {line["item"]: line for line in lines_of(out)}
    assert set(found) == {"200.png", "201.png", "202.png", "203.png", "204.png", "205.png", "broken.png"}
    assert all(set(line) == KEYS for line in found.values())
    assert found["broken.png"]["score"] is None
    assert found["broken.png"]["error"]
    assert {item for item, line in found.items() if line["anomalous"]} == {"201.png", "204.png"}
    assert {item for item, line in found.items() if line["map"]} == {"201.png", "204.png"}, "--maps anomalous"
    expected = off.load(fitted).detect(images(parts / "new")).collect()
    for record in expected:
        if record.error is None:
            assert found[record.item]["score"] == record.score
            assert found[record.item]["p_value"] == record.p_value
    written = tifffile.imread(out / found["201.png"]["map"])
    assert written.dtype == np.float32
    np.testing.assert_array_equal(written, next(r.map for r in expected if r.item == "201.png"))
    facts = json.loads((out / "run.json").read_text())
    assert facts["done"] is True
    assert facts["facts"]["detector"] == "pixel_statistics"
    assert facts["counts"]["anomalous"] == 2
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "204.png" in page
    assert page.count("data:image") >= 6, "a picture of every readable item"
    assert "Not readable" in said.stdout


@pytest.mark.parametrize(("maps", "count"), [("none", 0), ("anomalous", 2), ("all", 6)])
def test_maps_are_written_as_asked(run, parts, fitted, tmp_path, maps, count) -> None:
    run("detect", fitted, parts / "new", "--out", tmp_path / "r", "--maps", maps, "--quiet", code=3)
    assert len(list((tmp_path / "r").glob("maps/*.tiff"))) == count


def test_json_names_the_files(run, parts, fitted, tmp_path) -> None:
    told = json.loads(run("detect", fitted, parts / "new", "--out", tmp_path / "r", "--json", code=3).stdout)
    assert told["counts"] == {"anomalous": 2, "normal": 4, "none": 0, "bad": 1}
    assert Path(told["results"]).is_file()
    assert told["report"] is None


def test_a_run_without_bad_items_leaves_with_0(run, parts, fitted, tmp_path) -> None:
    run("detect", fitted, parts / "new" / "200.png", "--out", tmp_path / "r")


def test_a_second_run_scores_nothing_again(run, parts, fitted, tmp_path, monkeypatch) -> None:
    words = ["detect", fitted, parts / "good", "--out", tmp_path / "r", "--maps", "all"]
    run(*words)
    before = (tmp_path / "r" / "results.jsonl").read_bytes()

    def never(*args, **options):
        raise AssertionError("scored again")

    monkeypatch.setattr("offnominal.image.pixel_statistics.PixelStatistics._infer", never)
    run(*words, "--report")
    assert (tmp_path / "r" / "results.jsonl").read_bytes() == before


def test_new_changed_and_removed_files_are_noticed(run, fitted, image_folder, tmp_path) -> None:
    folder = image_folder("a.png", "b.png", "c.png", "d.png", size=(48, 48))
    words = ["detect", fitted, folder, "--out", tmp_path / "r"]
    run(*words)
    before = {line["item"]: line["score"] for line in lines_of(tmp_path / "r")}
    Image.fromarray(np.full((48, 48, 3), 250, dtype=np.uint8)).save(folder / "b.png")
    (folder / "c.png").unlink()
    image_folder("bb.png", size=(48, 48), seed=5)
    run(*words)
    after = {line["item"]: line["score"] for line in lines_of(tmp_path / "r")}
    assert list(after) == ["a.png", "b.png", "bb.png", "d.png"], "in the order of the source"
    assert after["a.png"] == before["a.png"]
    assert after["b.png"] != before["b.png"]


def test_an_item_that_was_bad_is_tried_again(run, fitted, image_folder, tmp_path) -> None:
    folder = image_folder("a.png", "b.png", size=(48, 48))
    whole = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(whole[:60])
    words = ["detect", fitted, folder, "--out", tmp_path / "r"]
    run(*words, code=3)
    (folder / "a.png").write_bytes(whole)
    run(*words)
    assert [line["item"] for line in lines_of(tmp_path / "r")] == ["a.png", "b.png"]


@pytest.mark.parametrize("keep", [0, 1, 3])
@pytest.mark.parametrize("stamps", ["whole", "torn", "gone"])
def test_a_torn_last_line_is_dropped_and_the_run_goes_on(run, parts, fitted, tmp_path, keep, stamps) -> None:
    out = tmp_path / "r"
    words = ["detect", fitted, parts / "new", "--out", out, "--quiet"]
    run(*words, code=3)
    whole = (out / "results.jsonl").read_bytes()
    rows = whole.splitlines(keepends=True)
    (out / "results.jsonl").write_bytes(b"".join(rows[:keep]) + rows[keep][: len(rows[keep]) // 2])
    marks = (out / ".stamps").read_bytes().splitlines(keepends=True)
    if stamps == "torn":
        (out / ".stamps").write_bytes(b"".join(marks[:keep]) + marks[keep][:3])
    elif stamps == "gone":
        (out / ".stamps").unlink()
    run(*words, code=3)
    assert (out / "results.jsonl").read_bytes() == whole


def test_results_of_another_model_or_source_are_not_mixed(run, parts, fitted, model, tmp_path) -> None:
    out = tmp_path / "r"
    run("detect", fitted, parts / "new", "--out", out, code=3)
    before = (out / "results.jsonl").read_bytes()
    run("calibrate", model, parts / "good", "--false-alarm-rate", "0.2")
    assert "another model" in run("detect", model, parts / "new", "--out", out, code=1).stderr
    assert "another source" in run("detect", fitted, parts / "good", "--out", out, code=1).stderr
    assert (out / "results.jsonl").read_bytes() == before
    run("detect", model, parts / "good", "--out", out, "--restart")
    assert len(lines_of(out)) == 120


def test_a_folder_with_foreign_results_is_left_alone(run, parts, fitted, tmp_path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "results.jsonl").write_text("mine\n")
    run("detect", fitted, parts / "new", "--out", tmp_path / "r", code=1)
    assert (tmp_path / "r" / "results.jsonl").read_text() == "mine\n"
    (tmp_path / "file").write_text("mine")
    assert "is a file" in run("detect", fitted, parts / "new", "--out", tmp_path / "file", code=1).stderr


def test_results_are_not_written_into_the_source(run, parts, fitted) -> None:
    out = parts / "new" / "found"
    assert "lies inside" in run("detect", fitted, parts / "new", "--out", out, code=2).stderr
    assert not out.exists()


def test_a_full_disk_gives_one_error_and_loses_nothing(run, parts, fitted, tmp_path, monkeypatch) -> None:
    out = tmp_path / "r"
    words = ["detect", fitted, parts / "new", "--out", out, "--maps", "all"]
    written = []

    def full(path, values):
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        original(path, values)

    from offnominal.cli import results

    original = results.write_map
    monkeypatch.setattr(results, "write_map", full)
    said = run(*words, code=1)
    assert said.stderr.count("error:") == 1
    assert "No space left on device" in said.stderr
    assert "make room" in said.stderr
    assert len(lines_of(out)) == 3
    monkeypatch.undo()
    run(*words, code=3)
    assert len(lines_of(out)) == 7


def test_a_disk_that_is_full_at_the_report_keeps_the_records(
    run, parts, fitted, tmp_path, monkeypatch
) -> None:
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("offnominal.report.write_report", full)
    said = run("detect", fitted, parts / "new", "--out", tmp_path / "r", "--report", code=1)
    assert "report.html: cannot be written (No space left on device)" in said.stderr
    assert len(lines_of(tmp_path / "r")) == 7


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_gives_one_error(run, parts, fitted, tmp_path) -> None:
    (tmp_path / "r").mkdir(mode=0o555)
    assert "Permission denied" in run("detect", fitted, parts / "new", "--out", tmp_path / "r", code=1).stderr


HOSTILE = [
    "größe 1.png",
    "图像/部件.png",
    "UPPER/a.png",
    "upper/A.png",
    "a#120.png",
    "a b/x..x/b c.png",
    "dots..in..name...png",
    "semi;colon $HOME `x`.png",
    "n" * 200 + ".png",
    "CON.png",
]


def test_hostile_names_get_a_record_and_a_map_each(run, fitted, image_folder, tmp_path) -> None:
    folder = image_folder(*HOSTILE, size=(48, 48))
    out = tmp_path / "r"
    run("detect", fitted, folder, "--out", out, "--maps", "all", "--report")
    found = lines_of(out)
    assert {line["item"] for line in found} == set(HOSTILE)
    maps = [out / line["map"] for line in found]
    assert len({str(path).casefold() for path in maps}) == len(found)
    for path in maps:
        assert path.parent == out / "maps"
        assert tifffile.imread(path).shape == (48, 48)


@given(st.lists(st.text(min_size=1), min_size=2, max_size=6, unique=True))
def test_map_names_are_safe_and_unique(items: list[str]) -> None:
    names = [map_name(item) for item in items]
    assert len({name.casefold() for name in names}) == len(items)
    for name in names:
        assert not set(name) & set('/\\:*?"<>|\0\n')
        assert not name.startswith(".")
        assert len(name.encode("utf-8")) < 120


def test_a_record_with_half_a_surrogate_is_written_and_read(tmp_path) -> None:
    from offnominal.cli.results import Results

    source = images([np.zeros((4, 4), dtype=np.uint8)])
    results = Results(tmp_path / "r", {"source": "x"}, "none")
    with results:
        results.add(Detection("bad\udcff.png", "x", score=1.0), "-")
    (found,) = results.records()
    assert found.item == "bad\udcff.png"
    assert results.keep(source, False) == [0]


def _killed_when(words: list[str], ready, limit: float = 60) -> None:
    """Start a command and kill it, the hard way, once ``ready()``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "offnominal", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + limit
    while not ready() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL) if hasattr(signal, "SIGKILL") else process.kill()
    process.wait()
    assert process.returncode != 0, "it was done before it could be killed"


def test_a_killed_detect_goes_on_to_the_same_results(run, fitted, many, tmp_path, monkeypatch) -> None:
    out = tmp_path / "r"
    words = ["detect", fitted, many, "--out", out]
    records = out / "results.jsonl"
    _killed_when(words, lambda: records.is_file() and records.read_bytes().count(b"\n") >= 100)
    done = records.read_bytes().count(b"\n")
    assert 100 <= done < 1000
    from offnominal.image.pixel_statistics import PixelStatistics

    scored = []
    original = PixelStatistics._infer

    def counted(self, batch):
        scored.append(len(batch.views))
        return original(self, batch)

    monkeypatch.setattr(PixelStatistics, "_infer", counted)
    run(*words)
    assert sum(scored) <= 1000 - done + 1
    run("detect", fitted, many, "--out", tmp_path / "whole")
    assert records.read_bytes() == (tmp_path / "whole" / "results.jsonl").read_bytes()


def test_a_killed_fit_goes_on_to_the_same_model(run, many, tmp_path, monkeypatch) -> None:
    words = ["--detector", "pixel_statistics", "--set", "image_size=48"]
    partial = tmp_path / ".m.partial"
    _killed_when(
        ["fit", many, *words, "--out", tmp_path / "m"],
        lambda: len(list(partial.glob("*/part-*.safetensors"))) >= 2,
    )
    assert not (tmp_path / "m").exists()
    from offnominal.image.pixel_statistics import PixelStatistics

    absorbed = []
    original = PixelStatistics._absorb

    def counted(self, batch):
        absorbed.append(len(batch.views))
        original(self, batch)

    monkeypatch.setattr(PixelStatistics, "_absorb", counted)
    run("fit", many, *words, "--out", tmp_path / "m")
    assert sum(absorbed) <= 600, "the learned parts were taken up"
    assert not partial.exists()
    absorbed.clear()
    run("fit", many, *words, "--out", tmp_path / "whole")
    assert sum(absorbed) == 1000
    one, other = off.load(tmp_path / "m"), off.load(tmp_path / "whole")
    for name, array in one.moments_.items():
        np.testing.assert_array_equal(array, other.moments_[name])
    assert one.decision_.report() == other.decision_.report()
