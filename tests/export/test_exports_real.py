"""On real photographs an export finds what the running model finds."""

from __future__ import annotations

import json

import numpy as np
import pytest

import offnominal as off
from offnominal.image.export import Exported, export
from offnominal.metrics import auroc


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_the_area_under_the_curve_stays(data_root, tmp_path, to):
    from offnominal.bench import layouts

    if "ball_screw" not in layouts.find(data_root):
        pytest.skip("ball_screw is not under the data folder")
    split = layouts.load("ball_screw", data_root, seed=0)
    random = np.random.default_rng(0)
    chosen = np.concatenate(
        [random.choice(np.flatnonzero(split.test.labels == label), 150, replace=False) for label in (0, 1)]
    )
    test, labels = [str(split.test.paths[i]) for i in chosen], split.test.labels[chosen]
    train = [str(path) for path in split.train.paths[::6]]
    detector = off.make("patchcore", runtime="openvino", precision="bf16").partial_fit(train)
    folder = export(detector, to, tmp_path / "out", sample=test[:6])
    apart = auroc(labels, Exported(folder).anomaly_score(test)) - auroc(labels, detector.anomaly_score(test))
    assert abs(apart) <= 0.002
    told = json.loads((folder / "export.json").read_text(encoding="utf-8"))["parity"]
    assert max(told["deviation_from_fp32"].values()) <= 1e-4
