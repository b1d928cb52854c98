"""Serve anomalib's EfficientAD to a speed benchmark that takes turns with it. Runs in the peer's environment.

    FOLDER/venv/bin/python benchmarks/peers/anomalib_efficientad_server.py TASK.json

TASK holds ``images`` (a ``.npy`` file of decoded pixels (n, side, side, 3) uint8), ``size`` ("S" or "M") and
``threads``. The networks are not trained: that changes no time. ``{"start": i, "count": n, "batch": b}``
comes in as one line and ``{"seconds": s}`` goes out; turning pixels into tensors is not in the time.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch


def make(size: str) -> torch.nn.Module:
    from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel, EfficientAdModelSize

    torch.manual_seed(0)
    model = EfficientAdModel(model_size=getattr(EfficientAdModelSize, size)).eval()
    model.mean_std.update({"mean": torch.zeros(1, 384, 1, 1), "std": torch.ones(1, 384, 1, 1)})
    scales = {"qa_st": 0.1, "qb_st": 0.2, "qa_ae": 0.1, "qb_ae": 0.2}
    model.quantiles.update({name: torch.tensor(value) for name, value in scales.items()})
    return model


def score(model: torch.nn.Module, pixels: np.ndarray, asked: dict[str, Any]) -> float:
    seconds = 0.0
    with torch.inference_mode():
        for start in range(asked["start"], asked["start"] + asked["count"], asked["batch"]):
            part = np.array(pixels[start : min(start + asked["batch"], asked["start"] + asked["count"])])
            images = (torch.from_numpy(part).permute(0, 3, 1, 2).float() / 255).contiguous()
            began = time.perf_counter()
            model(images)
            seconds += time.perf_counter() - began
    return seconds


def main() -> None:
    # what the peer prints must not get between the answers
    answers, sys.stdout = sys.stdout, sys.stderr
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(task["threads"])
    model, pixels = make(task["size"]), np.load(task["images"], mmap_mode="r")
    for line in sys.stdin:
        print(json.dumps({"seconds": score(model, pixels, json.loads(line))}), file=answers, flush=True)


if __name__ == "__main__":
    main()
