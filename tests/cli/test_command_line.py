"""What every command promises: exit codes, words for people, JSON for machines, no traceback."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import offnominal as off
from offnominal.cli.app import COMMANDS, app


def test_help_lists_every_command_and_imports_none() -> None:
    code = (
        "import sys\nfrom offnominal.cli.app import app\n"
        "try: app(['--help'])\nexcept SystemExit as end: assert end.code in (0, None)\n"
        "heavy = {'openvino', 'torch', 'onnx', 'scipy', 'PIL', 'tifffile', 'rich', 'offnominal.cli.fit'}\n"
        "print('loaded', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "loaded []" in done.stdout
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("name", list(COMMANDS))
def test_each_command_has_help_and_the_first_sentence_is_no_stub(run, name: str) -> None:
    said = run(name, "--help").output
    assert "--json" in said
    assert "--quiet" in said


def test_commands_that_come_later_are_not_shown(run) -> None:
    said = run("--help").output
    assert "serve" not in said


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["fitt"], 2, "did you mean fit"),
        (["fit"], 2, "SOURCE"),
        (["fit", "nowhere", "--out", "m"], 1, "no such file or folder"),
        (["fit", "nowhere", "--out", "m", "--detector", "patchcor"], 2, "patchcore"),
        (["fit", "nowhere", "--out", "m", "--false-alarm-rate", "1.5"], 2, "false-alarm-rate"),
        (["fit", "nowhere", "--out", "m", "--modality", "smell"], 2, "smell"),
        (["fit", "nowhere", "--out", "m", "--detector", "patchcore", "--set", "colour=1"], 2, "bank_size"),
        (["fit", "nowhere", "--out", "m", "--detector", "patchcore", "--set", "image_size"], 2, "key=value"),
        (
            ["fit", "nowhere", "--out", "m", "--detector", "patchcore", "--set", "image_size=big"],
            2,
            "whole number",
        ),
        (
            ["fit", "nowhere", "--out", "m", "--detector", "patchcore", "--set", "image_size=true"],
            2,
            "whole number",
        ),
        (
            ["fit", "nowhere", "--out", "m", "--detector", "patchcore", "--set", "reweight=1"],
            2,
            "true or false",
        ),
        (["fit", "nowhere", "--out", "m", "--detector", "patchcore", "--set", 'levels={"a":1}'], 2, "list"),
        (["detect", "nomodel", "nowhere", "--out", "r"], 1, "offnominal fit"),
        (["detect", "patchcore", "nowhere", "--out", "r"], 1, "fitted first"),
        (["calibrate", "nomodel", "nowhere"], 1, "not a model folder"),
        (["catalogue", "--by", "colour"], 2, "modality"),
        (["export", "nomodel", "--to", "paper", "--out", "e"], 2, "onnx"),
        (["bench", "image", "--data", "nowhere", "--out", "b"], 2, "no such folder"),
        (["bench", "image", "--data", ".", "--out", "b", "--seeds", "x"], 2, "whole numbers"),
    ],
)
def test_wrong_use_and_failures_say_what_to_do(run, tmp_path, monkeypatch, arguments, code, words) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments, code=code)
    assert words in result.stderr
    assert not [path for path in tmp_path.iterdir() if path.name != "b"]


def test_errors_for_machines_are_json(run, tmp_path) -> None:
    result = run("--json", "detect", tmp_path / "none", "nowhere", "--out", tmp_path / "r", code=1)
    told = json.loads(result.stdout)
    assert told["exit_code"] == 1
    assert "no such model folder" in told["error"]


def test_fit_prints_what_the_verdicts_rest_on(run, parts, tmp_path) -> None:
    said = run(
        "fit",
        parts / "good",
        "--detector",
        "pixel_statistics",
        "--set",
        "image_size=48",
        "--out",
        tmp_path / "m",
    )
    assert "120 items" in said.stdout
    assert "at a false-alarm rate of 1 %" in said.stdout
    assert "rank among normals" in said.stdout
    assert not (tmp_path / ".m.partial").exists()


def test_set_values_are_json_and_lists_become_tuples(run, parts, tmp_path) -> None:
    words = ["--set", "image_size=32", "--set", "largest_shift=0", "--set", "tile=null", "--quiet"]
    run("fit", parts / "good", "--detector", "pixel_statistics", *words, "--out", tmp_path / "m")
    params = off.load(tmp_path / "m").get_params()
    assert (params["image_size"], params["largest_shift"], params["tile"]) == (32, 0, None)
    from offnominal.cli.parameters import detector_with

    assert detector_with("patchcore", None, ['levels=["10", "19"]']).get_params()["levels"] == ("10", "19")
    assert detector_with("patchcore", None, ["encoder=resnet18"]).get_params()["encoder"] == "resnet18"


def test_fit_with_bad_items_lists_each_and_leaves_with_3(run, parts, tmp_path) -> None:
    words = ["--detector", "pixel_statistics", "--set", "image_size=48", "--out", tmp_path / "m"]
    said = run("fit", parts / "new", *words, code=3)
    assert "broken.png" in said.stdout
    assert (tmp_path / "m" / "model.json").is_file()
    told = json.loads(run("fit", parts / "new", *words, "--json", code=3).stdout)
    assert [entry["item"] for entry in told["skipped"]] == ["broken.png"]
    assert told["items"] == 6


def test_fit_refuses_bad_items_when_asked(run, parts, tmp_path) -> None:
    words = ["--detector", "pixel_statistics", "--on-bad", "refuse", "--out", tmp_path / "m"]
    said = run("fit", parts / "new", *words, code=1)
    assert "broken.png" in said.stderr
    assert not (tmp_path / "m").exists()
    assert not (tmp_path / ".m.partial").exists()


def test_fit_of_nothing_but_bad_items_fails(run, tmp_path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"")
    said = run("fit", tmp_path / "bad", "--detector", "pixel_statistics", "--out", tmp_path / "m", code=1)
    assert "a.png" in said.stderr


def test_fit_never_overwrites_what_is_no_model(run, parts, tmp_path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    said = run("fit", parts / "good", "--out", tmp_path / "thesis", code=2)
    assert "not a model folder" in said.stderr
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


def test_calibrate_replaces_the_decision_and_nothing_else(run, parts, model) -> None:
    before = off.load(model)
    said = run("calibrate", model, parts / "good", "--false-alarm-rate", "0.1")
    assert "10 %" in said.stdout
    after = off.load(model)
    assert after.decision_.false_alarm_rate == 0.1
    for name, array in before.moments_.items():
        np.testing.assert_array_equal(after.moments_[name], array)
    run("calibrate", model, parts / "good")
    assert off.load(model).decision_.false_alarm_rate == 0.1, "the rate a model was made for stays"


def test_calibrate_goes_on_without_bad_items(run, parts, model) -> None:
    said = run("calibrate", model, parts / "new", code=3)
    assert "broken.png" in said.stdout
    before = (model / "model.json").read_bytes()
    run("calibrate", model, parts / "new", "--on-bad", "refuse", code=1)
    assert (model / "model.json").read_bytes() == before


def test_explain_says_it_in_words_and_draws_it(run, parts, fitted, tmp_path) -> None:
    said = run("explain", fitted, parts / "new" / "201.png", "--out", tmp_path / "e").stdout
    assert "201.png is off-normal at a false-alarm rate of 1 %" in said
    (picture,) = (tmp_path / "e").glob("*.png")
    (values,) = (tmp_path / "e").glob("*.tiff")
    import tifffile

    found = tifffile.imread(values)
    with Image.open(picture) as drawn:
        assert drawn.size == (480, 480), "small images are drawn enlarged"
    assert found.dtype == np.float32
    peak = np.unravel_index(found.argmax(), found.shape)
    assert 18 <= peak[0] < 32
    assert 10 <= peak[1] < 26
    told = json.loads(
        run("explain", fitted, parts / "new" / "201.png", "--out", tmp_path / "e", "--json").stdout
    )
    assert told["anomalous"] is True
    x0, y0, x1, y1 = told["regions"][0]["where"]
    assert x0 < 18 < x1
    assert y0 < 25 < y1
    assert "normal at" in run("explain", fitted, parts / "new" / "200.png", "--out", tmp_path / "e").stdout
    assert (
        "broken.png"
        in run("explain", fitted, parts / "new" / "broken.png", "--out", tmp_path / "f", code=1).stderr
    )
    assert "one" in run("explain", fitted, parts / "new", code=1).stderr


def test_catalogue_shows_the_cards(run) -> None:
    told = json.loads(run("catalogue", "--json").stdout)
    assert {card["name"] for card in told} == {card.name for card in off.catalogue()}
    grouped = json.loads(run("--json", "catalogue", "--by", "setting").stdout)
    assert "patchcore" in {card["name"] for card in grouped["few-shot"]}
    said = run("catalogue", "--by", "localises").stdout
    assert "localises: yes" in said
    assert "S114" in run("catalogue").stdout


def test_doctor_says_what_is_there_and_what_to_do(run, monkeypatch) -> None:
    said = run("doctor").stdout
    assert "The main job can run." in said
    assert "efficientnet_lite2" in said
    monkeypatch.setattr("offnominal.cli.doctor.find_spec", lambda name: None)
    told = json.loads(run("doctor", "--json").stdout)
    extra = next(check for check in told["checks"] if check["part"] == "extra torch")
    assert (extra["ok"], told["ok"]) == (False, True)
    assert "offnominal[torch]" in extra["what_to_do"]
    monkeypatch.setenv("OFFNOMINAL_THREADS", "many")
    assert run("doctor", "--json", code=1).stdout


def test_doctor_fails_without_the_default_weights(run, monkeypatch) -> None:
    from offnominal.core.errors import WeightsUnavailable

    def nothing(*args, **options):
        raise WeightsUnavailable("weights are not here; put them there")

    monkeypatch.setattr("offnominal.encoders.image_encoder", nothing)
    assert "put them there" in run("doctor", code=1).stdout


def test_export_says_how_far_apart_the_scores_are(run, fitted, tmp_path) -> None:
    pytest.importorskip("onnxruntime")
    said = run("export", fitted, "--to", "onnx", "--out", tmp_path / "e").stdout
    assert "apart" in said
    assert (tmp_path / "e" / "model.onnx").is_file()
    told = json.loads(run("export", fitted, "--to", "onnx", "--out", tmp_path / "e", "--json").stdout)
    assert max(told["parity"]["deviation_from_fp32"].values()) <= 1e-4


def test_bench_hands_over_and_tells_what_failed(run, tmp_path, monkeypatch) -> None:
    from offnominal import bench

    asked = {}

    def suite(name, data, detectors, out, **options):
        asked.update(options, name=name, detectors=detectors)
        return [{"set": "tiles", "seed": 0, "label": "padim", "auroc": 0.9}]

    monkeypatch.setattr(bench, "run_suite", suite)
    words = ["bench", "image", "--data", tmp_path, "--out", tmp_path / "o", "--detectors", "padim, patchcore"]
    assert "tiles" in run(*words, "--seeds", "0,3").stdout
    assert asked["detectors"] == ["padim", "patchcore"]
    assert asked["seeds"] == [0, 3]

    def failing(*args, **options):
        raise bench.RunsFailedError("1 of 2 runs failed: padim on tiles")

    monkeypatch.setattr(bench, "run_suite", failing)
    assert "padim on tiles" in run(*words, code=1).stderr


def test_quiet_prints_nothing_and_still_works(run, parts, fitted, tmp_path) -> None:
    result = run("--quiet", "detect", fitted, parts / "new", "--out", tmp_path / "r", code=3)
    assert result.output == ""
    assert len((tmp_path / "r" / "results.jsonl").read_text().splitlines()) == 7


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "goes on from there"),
        (OSError(errno.ENOSPC, "No space left on device", "somewhere"), 1, "somewhere: No space left"),
        (MemoryError(), 1, "not enough memory"),
        (ValueError("bank_size must be positive"), 2, "bank_size must be positive"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 1, "make room"),
        (KeyError("oops"), 1, "fault of offnominal"),
    ],
)
def test_no_error_reaches_the_user_as_a_traceback(run, monkeypatch, error, code, words) -> None:
    def broken():
        raise error

    monkeypatch.setattr("offnominal.cli.doctor.examine", broken)
    assert words in run("doctor", code=code).stderr
    monkeypatch.setenv("OFFNOMINAL_DEBUG", "1")
    shown = CliRunner().invoke(app, ["doctor"])
    assert "Traceback" in shown.stderr


def test_a_model_under_another_precision_warns_in_one_line(run, parts, fitted, tmp_path, monkeypatch) -> None:
    from offnominal.image.pixel_statistics import PixelStatistics

    monkeypatch.setattr(PixelStatistics, "_environment", lambda self: {"precision": "other"})
    result = run("detect", fitted, parts / "new", "--out", tmp_path / "r", code=3)
    (line,) = [line for line in result.stderr.splitlines() if "precision" in line]
    assert line.startswith("warning: ")
    lines = [json.loads(line) for line in (tmp_path / "r" / "results.jsonl").read_text().splitlines()]
    assert {line["anomalous"] for line in lines} == {None}


def test_the_script_and_the_module_leave_with_the_code(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "offnominal", "detect", "none", "none", "--out", str(tmp_path / "r")]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
