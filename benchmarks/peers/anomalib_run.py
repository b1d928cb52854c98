"""Run anomalib's PatchCore or PaDiM on a list of images and write raw scores, maps and stage timings.

    FOLDER/venv/bin/python benchmarks/peers/anomalib_run.py TASK.json

Runs in the peer's environment (see ``setup.py``) and imports nothing of offnominal. What is anomalib's own:
reading of images, resizing, the torch models, their coreset, search, scores and maps. What is ours: the
weights and the normalisation, so that both sides see the same numbers. Scores and maps are taken as the
model returns them, before the min-max normalisation and clipping that the peer's post-processor adds.

The task is one JSON object; only the first four keys are required:

=============  ========================================================================================
train, test    lists of image paths
weights        file with the backbone's weights (``.safetensors``, ``.npz``, or a tensors-only ``.pth``)
out            ``.npz`` to write
model          ``patchcore`` (default) or ``padim``
backbone       ``efficientnet_lite2`` (default) or ``mobilenet_v2``
layers         flat block indices (or module names), default [10, 19]
image_size     side in pixels, default 256
coreset_ratio  share of patches kept, default 0.01;  ``bank_rows``: their number, instead
neighbours     of the re-weighting, default 9 (the peer's); 1 gives the plain maximum
n_features     dimensions PaDiM keeps, default 100
seed           default 0
batch          images a forward pass, default 8
threads        default 2
maps           side the maps are resized to, default 256; 0 writes none
coreset_cap_s  give up when the coreset takes longer, default none; scores are then NaN
=============  ========================================================================================

Written: ``scores`` (n,) float64, ``maps`` (n, side, side) float16, ``score_seconds`` and ``score_counts``
(per batch, decoding apart), ``decode_seconds`` (per test image), and ``report``, a JSON string with the
stages ``load``, ``train_decode``, ``train_features``, ``fit`` (coreset or Gaussian), ``test_decode``,
``test_score`` in seconds, bank size, versions and peak memory in bytes after imports and at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from anomalib_weights import NORMALISATION, build, layer_name

DEFAULTS: dict[str, Any] = {
    "model": "patchcore",
    "backbone": "efficientnet_lite2",
    "layers": [10, 19],
    "image_size": 256,
    "coreset_ratio": 0.01,
    "bank_rows": None,
    "neighbours": 9,
    "n_features": 100,
    "seed": 0,
    "batch": 8,
    "threads": 2,
    "maps": 256,
    "coreset_cap_s": None,
}


class StageTooLongError(Exception):
    """The stage went over the time the task allows."""


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Interrupt the block after some seconds (none: never); needs a POSIX system."""
    if not seconds:
        yield
        return

    def stop(*_: object) -> None:
        raise StageTooLongError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peak_bytes() -> int:
    """Largest resident size of this process so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def batches(paths: list[str], size: int, transform: Any, seconds: list[float]) -> Iterator[torch.Tensor]:
    """Yield batches read the peer's way; appends the time each image took."""
    from anomalib.data.utils import read_image

    for start in range(0, len(paths), size):
        images = []
        for path in paths[start : start + size]:
            began = time.perf_counter()
            images.append(transform(read_image(path, as_tensor=True)))
            seconds.append(time.perf_counter() - began)
        yield torch.stack(images)


def make_model(task: dict[str, Any]) -> torch.nn.Module:
    """The peer's model around the given backbone."""
    backbone = build(task["backbone"], task["weights"], task["image_size"])
    layers = [layer_name(task["backbone"], block) for block in task["layers"]]
    if task["model"] == "patchcore":
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel

        return PatchcoreModel(
            layers=layers, backbone=backbone, pre_trained=False, num_neighbors=task["neighbours"]
        )
    if task["model"] == "padim":
        from anomalib.models.image.padim.torch_model import PadimModel

        return PadimModel(backbone=backbone, layers=layers, pre_trained=False, n_features=task["n_features"])
    raise ValueError(f"unknown model {task['model']!r}")


def fit(model: torch.nn.Module, task: dict[str, Any]) -> int:
    """Second half of fitting, after all features are in; returns the number of rows kept."""
    if task["model"] == "padim":
        model.fit()
        return 0
    rows = sum(len(part) for part in model.embedding_store)
    # the peer keeps int(rows * ratio): half a row more asks for exactly so many, whatever the rounding
    ratio = task["coreset_ratio"] if not task["bank_rows"] else (min(task["bank_rows"], rows) + 0.5) / rows
    with time_limit(task["coreset_cap_s"]):
        model.subsample_embedding(ratio)
    return len(model.memory_bank)


def run(task: dict[str, Any]) -> dict[str, np.ndarray]:
    """Carry out a task and return the arrays to write."""
    import anomalib
    import timm
    from torchvision.transforms.v2 import Compose, Normalize, Resize

    torch.set_num_threads(task["threads"])
    torch.manual_seed(task["seed"])
    stages: dict[str, float] = {}
    began = time.perf_counter()
    model = make_model(task)
    stages["load"] = time.perf_counter() - began
    after_imports = peak_bytes()

    mean, scale = NORMALISATION[task["backbone"]]
    side = task["image_size"]
    transform = Compose(
        [
            Resize((side, side), antialias=True),
            Normalize(mean=[m / 255 for m in mean], std=[s / 255 for s in scale]),
        ]
    )

    model.train()
    decode: list[float] = []
    features = 0.0
    for images in batches(task["train"], task["batch"], transform, decode):
        began = time.perf_counter()
        model(images)
        features += time.perf_counter() - began
    stages["train_decode"], stages["train_features"] = sum(decode), features

    began = time.perf_counter()
    try:
        rows: int | None = fit(model, task)
    except StageTooLongError:
        rows = None
    stages["fit"] = time.perf_counter() - began

    model.eval()
    count = len(task["test"])
    scores = np.full(count, np.nan)
    maps = np.zeros((count, task["maps"], task["maps"]), np.float16)
    decode, seconds, counts = [], [], []
    done = 0
    for images in batches(task["test"] if rows is not None else [], task["batch"], transform, decode):
        began = time.perf_counter()
        with torch.no_grad():
            found = model(images)
        seconds.append(time.perf_counter() - began)
        counts.append(len(images))
        scores[done : done + len(images)] = found.pred_score.double().numpy().reshape(-1)
        if task["maps"]:
            resized = torch.nn.functional.interpolate(
                found.anomaly_map.float(), size=maps.shape[1:], mode="bilinear", align_corners=False
            )
            maps[done : done + len(images)] = resized[:, 0].numpy()
        done += len(images)
    stages["test_decode"], stages["test_score"] = sum(decode), sum(seconds)

    report = {
        "task": {key: value for key, value in task.items() if key not in ("train", "test")},
        "train": len(task["train"]),
        "test": count,
        "bank_rows": rows,
        "stages_s": stages,
        "peak_bytes": peak_bytes(),
        "peak_bytes_after_load": after_imports,
        "versions": {"anomalib": anomalib.__version__, "timm": timm.__version__, "torch": torch.__version__},
    }
    arrays = {
        "scores": scores,
        "score_seconds": np.array(seconds),
        "score_counts": np.array(counts, dtype=np.int64),
        "decode_seconds": np.array(decode),
        "report": np.array(json.dumps(report)),
    }
    return arrays | ({"maps": maps} if task["maps"] else {})


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    unknown = set(given) - set(DEFAULTS) - {"train", "test", "weights", "out"}
    if unknown:
        raise SystemExit(f"{sys.argv[1]}: unknown keys {sorted(unknown)}")
    arrays = run(DEFAULTS | given)
    out = Path(given["out"])
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".part.npz")
    np.savez_compressed(temporary, **arrays)
    temporary.replace(out)
    print(arrays["report"].item())


if __name__ == "__main__":
    main()
