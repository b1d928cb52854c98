from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from offnominal.bench import RunsFailedError, read_results, run_suite, runner
from offnominal.bench.runner import RESULTS, Run, carry_out, chosen_sets, scores_path
from offnominal.core.errors import BadSource
from offnominal.core.store import read_json
from offnominal.metrics import auroc


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets in MVTec AD's form: flat grey parts with noise, and a bright square where they are broken."""
    random = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("data")

    def part() -> np.ndarray:
        return (random.normal(120, 3, (40, 48, 3)).clip(0, 255)).astype(np.uint8)

    for category in ("bolt", "nut"):
        folder = root / "mvtec" / category
        for number in range(24):
            save(folder / "train" / "good" / f"{number:02}.png", part())
        for number in range(6):
            save(folder / "test" / "good" / f"{number}.png", part())
            broken, mask = part(), np.zeros((40, 48), np.uint8)
            row, column = random.integers(2, 28, 2)
            broken[row : row + 8, column : column + 8] = 250
            mask[row : row + 8, column : column + 8] = 255
            save(folder / "test" / "square" / f"{number}.png", broken)
            save(folder / "ground_truth" / "square" / f"{number}_mask.png", mask)
    return root


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results")
    run_suite("image", data, ["pixel_statistics"], out, seeds=(0,), sets=["mvtec/bolt"])
    return out


def test_a_run_leaves_its_record_and_its_scores(finished: Path) -> None:
    (record,) = read_results(finished)
    assert (record["set"], record["detector"], record["seed"]) == ("mvtec/bolt", "pixel_statistics", 0)
    assert (record["train"], record["test"], record["anomalous"]) == (24, 12, 6)
    with np.load(scores_path(finished, record["key"]), allow_pickle=False) as file:
        assert record["auroc"] == pytest.approx(auroc(file["labels"], file["scores"]))
        assert len(set(file["items"])) == 12
    # a bright square on flat parts is there for anyone to see, and in the right place
    assert record["auroc"] == 1.0
    assert record["pixel_auroc"] > 0.9
    assert record["aupro"] > 0.7
    assert record["peak_mb"] >= record["fit_mb"] >= record["loaded_mb"] > 1
    assert min(record[key] for key in ("fit_s", "decode_ms", "score_ms", "detect_ms", "model_mb")) > 0
    assert record["machine"]["versions"]["numpy"] == np.__version__


def test_finished_runs_are_not_done_again(
    finished: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("it ran again")

    monkeypatch.setattr(runner, "run_script", forbidden)
    before = (finished / RESULTS).read_bytes()
    again = run_suite("image", data, ["pixel_statistics"], finished, seeds=(0,), sets=["mvtec/bolt"])
    assert [record["set"] for record in again] == ["mvtec/bolt"]
    assert (finished / RESULTS).read_bytes() == before


def test_tables_say_what_made_them_and_what_came_out(finished: Path) -> None:
    page = (finished / "image.md").read_text(encoding="utf-8")
    assert "offnominal bench image --data DIR --out results" in page
    assert "| mvtec/bolt |" in page
    assert "100.00" in page
    assert str(finished) not in page
    (row,) = csv.DictReader((finished / "image.csv").read_text(encoding="utf-8").splitlines())
    assert float(row["auroc"]) == 1.0
    assert row["label"] == "pixel_statistics"


def fake(run: Run, place: Path) -> dict[str, object]:
    np.savez(place, scores=np.zeros(1))
    return {"auroc": float("nan") if run.seed else 0.5}


def test_a_killed_suite_goes_on_after_a_line_cut_short(tmp_path: Path) -> None:
    runs = [Run("a", seed, "one", "one") for seed in range(3)]
    carry_out(runs[:2], tmp_path, fake)
    path = tmp_path / RESULTS
    path.write_bytes(path.read_bytes()[:-20])  # the second line was being written
    done: list[int] = []

    def noted(run: Run, place: Path) -> dict[str, object]:
        done.append(run.seed)
        return fake(run, place)

    records = carry_out(runs, tmp_path, noted)
    assert done == [1, 2]
    assert [record["seed"] for record in records] == [0, 1, 2]
    assert [record["seed"] for record in read_results(tmp_path)] == [0, 1, 2]


def test_what_is_not_defined_is_null_and_not_nan(tmp_path: Path) -> None:
    carry_out([Run("a", 1, "one", "one")], tmp_path, fake)
    (line,) = (tmp_path / RESULTS).read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["auroc"] is None


def test_one_failed_run_does_not_stop_the_others(tmp_path: Path) -> None:
    def sometimes(run: Run, place: Path) -> dict[str, object]:
        if run.seed == 0:
            raise RuntimeError("no room")
        return fake(run, place)

    with pytest.raises(RunsFailedError, match="no room"):
        carry_out([Run("a", seed, "one", "one") for seed in (0, 1)], tmp_path, sometimes)
    assert [record["seed"] for record in read_results(tmp_path)] == [1]


def test_another_parameter_is_another_run() -> None:
    keys = {
        Run("a", 0, "one", "one", parameters, limit).key
        for parameters in ({}, {"seed": 1}, {"seed": 2})
        for limit in (None, 5)
    }
    assert len(keys) == 6


def test_sets_are_found_by_layout_and_by_name(data: Path) -> None:
    assert chosen_sets(data, None) == ["mvtec/bolt", "mvtec/nut"]
    assert chosen_sets(data, ["mvtec"]) == ["mvtec/bolt", "mvtec/nut"]
    assert chosen_sets(data, ["mvtec/nut"]) == ["mvtec/nut"]
    with pytest.raises(BadSource, match="mvtec/bolt"):
        chosen_sets(data, ["screw"])


def test_an_unknown_suite_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="smell"):
        run_suite("smell", data, None, tmp_path)


def test_a_failing_process_says_why(data: Path, tmp_path: Path) -> None:
    task = {"data": str(data), "set": "mvtec/none", "seed": 0, "limit": None}
    with pytest.raises(RuntimeError, match="no data set"):
        runner.run_script([runner.sys.executable, "-m", "offnominal.bench.one"], task, 60)
    assert not (tmp_path / "anything").exists()
    with pytest.raises(Exception, match="incomplete"):
        read_json(tmp_path / "anything")
