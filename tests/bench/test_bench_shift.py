"""Detection under shift: the shifts lower what is found, the page and the record say by how much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from offnominal.bench import read_results
from offnominal.bench.shift import LEVELS, run_shift
from offnominal.cli.app import app
from offnominal.synth import CORRUPTIONS


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One set in MVTec AD's form: grey parts with noise, and a faint square where they are broken."""
    random = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("data")
    for place, count in (("train/good", 60), ("test/good", 5), ("test/square", 5)):
        for number in range(count):
            part = random.normal(120, 3, (40, 48, 3))
            if place.endswith("square"):
                part[12:20, 16:24] += 25
            path = root / "mvtec" / "bolt" / place / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(part.clip(0, 255).astype(np.uint8)).save(path)
    return root


def test_every_shift_is_measured_on_the_same_model(data: Path, tmp_path: Path) -> None:
    (record,) = run_shift(data, ["pixel_statistics"], tmp_path, seeds=(0,))
    assert set(record["shifted"]) == {f"{kind} {level}" for kind in CORRUPTIONS for level in LEVELS}
    assert record["auroc"] == 1.0
    assert record["shifted_auroc"] < 1.0
    assert record["shifted_auroc"] == pytest.approx(
        np.mean([entry["auroc"] for entry in record["shifted"].values()])
    )
    # strong noise hides a faint square, and normal parts with noise raise the alarm
    worst = min(record["shifted"], key=lambda name: record["shifted"][name]["auroc"])
    assert "noise" in worst
    assert record["shifted"][worst]["false_alarm_rate"] > record["false_alarm_rate"]
    page = (tmp_path / "shift" / "shift.html").read_text()
    assert page.count("data:image") >= 2


def test_from_the_command_line(data: Path, tmp_path: Path) -> None:
    arguments = ["bench", "shift", "--data", str(data), "--out", str(tmp_path)]
    result = CliRunner().invoke(app, [*arguments, "--detectors", "pixel_statistics", "--seeds", "0"])
    assert result.exit_code == 0, result.output
    assert "shifted auroc" in result.output
    assert len(read_results(tmp_path / "shift")) == 1
