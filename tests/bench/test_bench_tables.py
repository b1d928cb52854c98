"""The table suite: ADBench's splits, runs that are kept, pages, ranks; and the peer's comparison."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from offnominal.bench import RunsFailedError, read_results, run_suite
from offnominal.bench.critical_difference import critical_difference_svg
from offnominal.bench.layouts import adbench
from offnominal.bench.runner import scores_path
from offnominal.bench.table_comparison import compare, summary, write_table_comparison
from offnominal.bench.table_suite import chosen_tables
from offnominal.bench.worker import Worker
from offnominal.core.errors import BadSource
from offnominal.metrics import auroc, compare_ranks, precision_at_n


def _rows(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = (random.random(count) < 0.1).astype(np.int64)
    return random.normal(size=(count, 3)) + 4 * labels[:, None], labels


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tables")
    (root / "adbench").mkdir()
    for number, count in ((1, 300), (2, 1_200)):
        rows, labels = _rows(count, number)
        np.savez(root / "adbench" / f"{number}_set.npz", X=rows.astype(np.float32), y=labels)
    return root


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results")
    run_suite("table", data, ["hbos", "knn"], out, seeds=(0, 1))
    return out


@pytest.mark.parametrize("count", [300, 1_200, 10_400])
def test_the_split_is_the_one_adbench_makes(count: int) -> None:
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import MinMaxScaler

    rows, labels = _rows(count, 0)
    found = adbench.split(rows, labels, 3)
    np.random.seed(3)  # noqa: NPY002 - as the benchmark's own generator does
    if count < 1_000 or count > 10_000:
        size = 1_000 if count < 1_000 else 10_000
        chosen = np.random.choice(np.arange(count), size, replace=count < 1_000)  # noqa: NPY002
        rows, labels = rows[chosen], labels[chosen]
    train, test, _, expected = train_test_split(rows, labels, test_size=0.3, stratify=labels)
    scaler = MinMaxScaler().fit(train)
    np.testing.assert_allclose(found.train, scaler.transform(train), atol=1e-12)
    np.testing.assert_allclose(found.test, scaler.transform(test), atol=1e-12)
    np.testing.assert_array_equal(found.labels, expected)
    assert len(set(found.items)) == len(found.items)


def test_a_quick_look_keeps_both_classes() -> None:
    small = adbench.split(*_rows(1_200, 0), 0).smaller(50)
    assert small.train.shape == (50, 3)
    assert len(small.test) <= 51
    assert set(small.labels) == {0, 1}


def test_sets_are_found_by_any_of_their_names(data: Path) -> None:
    assert adbench.find(data) == ["adbench/1_set", "adbench/2_set"]
    assert chosen_tables(data, None) == chosen_tables(data, ["adbench"])
    assert chosen_tables(data, ["2_set", "adbench/2_set"]) == ["adbench/2_set"]
    with pytest.raises(BadSource, match="3_set"):
        chosen_tables(data, ["3_set"])
    with pytest.raises(BadSource, match="adbench_resnet18"):
        chosen_tables(data / "adbench", None)


@pytest.mark.parametrize(
    "stored",
    [{"X": np.ones((4, 2))}, {"X": np.ones((4, 2)), "y": np.arange(4)}, {"X": np.ones(4), "y": np.zeros(4)}],
)
def test_a_file_of_another_form_is_named(tmp_path: Path, stored: dict[str, np.ndarray]) -> None:
    (tmp_path / "adbench").mkdir()
    np.savez(tmp_path / "adbench" / "odd.npz", **stored)
    with pytest.raises(BadSource, match=r"odd\.npz"):
        adbench.load("adbench/odd", tmp_path)


def test_runs_are_kept_and_not_done_again(
    data: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = read_results(finished)
    assert len(records) == 2 * 2 * 2
    with np.load(scores_path(finished, records[0]["key"]), allow_pickle=False) as file:
        assert records[0]["auroc"] == pytest.approx(auroc(file["labels"], file["scores"]))
        assert records[0]["f1"] == pytest.approx(precision_at_n(file["labels"], file["scores"]))
    monkeypatch.setattr(Worker, "ask", lambda *_: pytest.fail("a finished run was done again"))
    again = run_suite("table", data, ["hbos", "knn"], finished, seeds=(0, 1))
    assert [record["key"] for record in again] == [record["key"] for record in records]


def test_the_page_has_ranks_measures_and_a_picture(finished: Path) -> None:
    page = (finished / "table.md").read_text("utf-8")
    for words in ("Mean ranks by AUROC", "Average precision", "Friedman", "adbench/1_set", "false alarms"):
        assert words in page
    picture = (finished / "table_ranks_auroc.svg").read_text("utf-8")
    assert picture.startswith("<svg")
    assert "critical difference" in picture


def test_the_picture_orders_methods_by_rank_and_escapes_names() -> None:
    found = compare_ranks(np.array([[0.9, 0.5, 0.1], [0.8, 0.6, 0.2], [0.9, 0.4, 0.3]]))
    drawn = critical_difference_svg(["a<b", "second", "last"], found, "title")
    assert drawn.index("a&lt;b (1.00)") < drawn.index("second (2.00)") < drawn.index("last (3.00)")


def test_ours_and_the_peers_are_compared_set_by_set(finished: Path, tmp_path: Path) -> None:
    records = read_results(finished)
    theirs = [
        {**record, "label": f"pyod {record['label']}", "auroc": record["auroc"] - 0.02, "ap": record["ap"]}
        for record in records
    ]
    rows = compare([*records, *theirs])
    assert len(rows) == 2 * 2 * 3
    (line,) = [row for row in summary(rows, "auroc") if row["detector"] == "knn"]
    assert line["difference"] == pytest.approx(2.0)
    assert (line["better"], line["worse"], line["holds"]) == (2, 0, True)
    (same,) = [row for row in summary(rows, "ap") if row["detector"] == "knn"]
    assert (same["difference"], same["better"], same["worse"]) == (0, 0, 0)
    write_table_comparison([*records, *theirs], tmp_path)
    assert "pyod knn" in (tmp_path / "table_peer.csv").read_text("utf-8")


def test_a_run_that_fails_is_named_and_the_others_are_done(data: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("offnominal.bench.table_suite.table_runs", lambda *_: _runs())
    with pytest.raises(RunsFailedError, match="nu must lie"):
        run_suite("table", data, ["knn"], tmp_path, seeds=(0,))
    assert len(read_results(tmp_path)) == 1


def _runs() -> list:
    from offnominal.bench import Run

    bad = Run("adbench/1_set", 0, "ocsvm", "ocsvm", {"nu": -1.0})
    return [bad, Run("adbench/1_set", 0, "hbos", "hbos")]


def test_a_worker_answers_fails_and_starts_again() -> None:
    code = (
        "import json, sys, time\n"
        "for line in sys.stdin:\n"
        "    task = json.loads(line)\n"
        "    if task == 'die': sys.exit('gave up')\n"
        "    if task == 'sleep': time.sleep(60)\n"
        "    print(json.dumps({'error': 'no'} if task == 'fail' else {'got': task}), flush=True)\n"
    )
    with Worker([sys.executable, "-c", code], 3.0) as worker:
        assert worker.ask({"a": 1}) == {"got": {"a": 1}}
        for task, words in (("fail", "no"), ("die", "gave up"), ("sleep", "longer than 3 s")):
            with pytest.raises(RuntimeError, match=words):
                worker.ask(task)  # type: ignore[arg-type]
            assert worker.ask({"b": 2}) == {"got": {"b": 2}}


def test_the_peers_script_imports_nothing_of_ours() -> None:
    text = (Path(__file__).parents[2] / "benchmarks" / "peers" / "pyod_server.py").read_text("utf-8")
    assert "import offnominal" not in text
    assert "from offnominal" not in text
