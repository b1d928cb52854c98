"""Serve anomalib's PatchCore to a speed benchmark that takes turns with it. Runs in the peer's environment.

    FOLDER/venv/bin/python benchmarks/peers/anomalib_server.py TASK.json

TASK is as for ``anomalib_run.py`` without ``train``, ``test`` and ``out``, with ``images``: a ``.npy`` file
of decoded pixels (n, side, side, 3) uint8. One JSON object a line comes in and one goes out:

- ``{"do": "fit", "count": n}`` → ``features_s``, ``coreset_s``, ``bank_rows``
- ``{"do": "score", "start": i, "count": n, "batch": b}`` → ``seconds``
- ``{"do": "peak"}`` → ``bytes``

Normalisation of pixels is not in the times.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import anomalib_run
import numpy as np
import torch
from anomalib_weights import NORMALISATION


class Server:
    def __init__(self, task: dict[str, Any]) -> None:
        self.task = anomalib_run.DEFAULTS | task
        torch.set_num_threads(self.task["threads"])
        torch.manual_seed(self.task["seed"])
        self.pixels = np.load(self.task["images"], mmap_mode="r")
        mean, scale = NORMALISATION[self.task["backbone"]]
        self.mean = torch.tensor(mean).reshape(1, 3, 1, 1)
        self.scale = torch.tensor(scale).reshape(1, 3, 1, 1)
        self.model: torch.nn.Module | None = None

    def batches(self, first: int, count: int, size: int):
        for start in range(first, first + count, size):
            pixels = np.array(self.pixels[start : min(start + size, first + count)])
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
            yield ((images - self.mean) / self.scale).contiguous()

    def fit(self, count: int) -> dict[str, Any]:
        self.model = anomalib_run.make_model(self.task)
        self.model.train()
        features = 0.0
        for images in self.batches(0, count, self.task["batch"]):
            began = time.perf_counter()
            self.model(images)
            features += time.perf_counter() - began
        began = time.perf_counter()
        rows = anomalib_run.fit(self.model, self.task)
        coreset = time.perf_counter() - began
        self.model.eval()
        return {"features_s": features, "coreset_s": coreset, "bank_rows": rows}

    def score(self, start: int, count: int, batch: int) -> dict[str, Any]:
        assert self.model is not None
        seconds = 0.0
        with torch.no_grad():
            for images in self.batches(start, count, batch):
                began = time.perf_counter()
                self.model(images)
                seconds += time.perf_counter() - began
        return {"seconds": seconds}

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["do"] == "fit":
            return self.fit(asked["count"])
        if asked["do"] == "score":
            return self.score(asked["start"], asked["count"], asked["batch"])
        if asked["do"] == "peak":
            return {"bytes": anomalib_run.peak_bytes()}
        raise ValueError(f"cannot do {asked['do']!r}")


def main() -> None:
    # what the peer prints must not get between the answers
    answers, sys.stdout = sys.stdout, sys.stderr
    server = Server(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    for line in sys.stdin:
        print(json.dumps(server.answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
