"""Detection time of EfficientAD beside its bare networks and beside anomalib's EfficientAD.

    python benchmarks/speed_efficientad.py --data DIR --out results --peer-python FOLDER/venv/bin/python
        [--set ball_screw] [--images 32] [--rounds 7] [--size S]

Both sides get the same decoded pixels at model size and the same threads, and take turns; figures are
medians over the turns, ratios are taken within a turn. What the networks have learned changes no time, so
they are not trained here. "networks" is teacher, student and auto-encoder run by the same runtime, each
reduced to its mean over the channels, and nothing else. Writes OUT/speed_efficientad.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from speed_image import SIDE, decoded, precisions, ratio, seconds_of, turns

from offnominal.bench import layouts
from offnominal.bench.machine import describe, header
from offnominal.core.store import write_json, write_text
from offnominal.core.threads import budget
from offnominal.image.efficientad import EfficientAD
from offnominal.image.networks.efficientad import Pixels
from offnominal.nets.compiled import Compiled
from offnominal.nets.export import to_graph
from offnominal.nets.patch_description import GlobalAutoEncoder, patch_description
from offnominal.report import Column, markdown_table

SERVER = Path(__file__).parent / "peers" / "anomalib_efficientad_server.py"
WIDE = ("6", "10", "14", "19")
"""Levels that have the 384 channels the published networks give."""

Ask = Callable[..., float]


class Bare(torch.nn.Module):
    """The three networks, and a mean over their channels."""

    def __init__(self, size: str, outputs: int, scale: float) -> None:
        super().__init__()
        self.pixels = Pixels()
        self.networks = torch.nn.ModuleList(
            [
                patch_description(size, outputs, scale),
                patch_description(size, 2 * outputs, scale),
                GlobalAutoEncoder(SIDE, outputs, min(1.0, 2 * scale)),
            ]
        )

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        images = self.pixels(pixels)
        return [network(images).mean(1) for network in self.networks]


@contextlib.contextmanager
def the_peer(python: Path, pixels: np.ndarray, size: str) -> Iterator[Ask]:
    """The peer's process: ``ask(start=…, count=…, batch=…)`` gives seconds."""
    folder = Path(tempfile.mkdtemp())
    np.save(folder / "images.npy", pixels)
    task = {"images": str(folder / "images.npy"), "size": size, "threads": budget()}
    (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
    with (folder / "errors").open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [os.path.abspath(python), str(SERVER.resolve()), str(folder / "task.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(**asked: int) -> float:
        process.stdin.write(json.dumps(asked) + "\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        if line := process.stdout.readline():  # type: ignore[union-attr]
            return float(json.loads(line)["seconds"])
        said = (folder / "errors").read_text(encoding="utf-8").strip().splitlines() or ["nothing"]
        raise SystemExit(f"the peer stopped; the last it said: {said[-1]}")

    try:
        yield ask
    finally:
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def works_of(preset: str, size: str, images: list[np.ndarray]) -> dict[str, Callable[[], float]]:
    """Detection and bare networks of a preset, in each precision the processor has."""
    short = {"distillation_steps": 1, "distillation_batch": 2, "steps": 1}
    levels = {"levels": WIDE} if preset == "paper" else {}
    found: dict[str, Callable[[], float]] = {}
    pixels = np.stack(images).astype(np.float32)
    settings = EfficientAD.PRESETS[preset]
    graph = to_graph(Bare(size, settings["outputs"], settings["scale"]), torch.zeros(1, SIDE, SIDE, 3))
    for precision in precisions():
        detector = EfficientAD(size, preset, precision=precision, **short, **levels).fit(images[:8])
        bare = Compiled(graph, precision)
        found[f"{preset} {precision}"] = lambda d=detector: seconds_of(lambda: list(d.detect(images)))
        found[f"{preset} {precision}, one by one"] = lambda d=detector: seconds_of(
            lambda: [list(d.detect([image])) for image in images]
        )
        found[f"{preset} {precision}, networks"] = lambda b=bare: seconds_of(lambda: b(pixels))
    return found


def page(found: dict[str, list[float]], count: int, size: str, batch: int, machine: Any) -> str:
    rows = []
    for name, seconds in found.items():
        row: dict[str, Any] = {"what": name, "ms": 1e3 * median(seconds) / count}
        if f"{name}, networks" in found:
            row["over"] = ratio(found, name, f"{name}, networks")
        if "networks" not in name and "anomalib" not in name and "anomalib" in found:
            peer = "anomalib, one by one" if name.endswith("one by one") else "anomalib"
            row["faster"] = ratio(found, peer, name)
        rows.append(row)
    columns: list[str | Column] = [
        "what",
        Column("ms", "ms/image", 1),
        Column("over", "of the networks' time", 2),
        Column("faster", "times the peer's speed", 2),
    ]
    command = (
        "python benchmarks/speed_efficientad.py --data DIR --out results --peer-python FOLDER/venv/bin/python"
    )
    return (
        header("Speed of EfficientAD", ["python benchmarks/peers/setup.py FOLDER", command], [machine])
        + f"EfficientAD-{size} at 256 × 256, {count} images a turn. Ours from decoded pixels to records with "
        "score, verdict, map and regions; the peer's from tensors to score and map, in torch, in batches of "
        f"{batch}. “paper” has the published widths, as the peer has; “cpu” is the preset for a CPU.\n\n"
        + markdown_table(rows, columns)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--set", default="ball_screw")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", choices=["S", "M"], default="S")
    parser.add_argument("--peer-batch", type=int, default=8)
    asked = parser.parse_args()
    pixels, _ = decoded(layouts.load(asked.set, asked.data).train, asked.images)
    works = works_of("cpu", asked.size, list(pixels)) | works_of("paper", asked.size, list(pixels))
    with contextlib.ExitStack() as stack:
        if asked.peer_python:
            ask = stack.enter_context(the_peer(asked.peer_python, pixels, asked.size))
            count = len(pixels)
            works["anomalib"] = lambda: ask(start=0, count=count, batch=asked.peer_batch)
            works["anomalib, one by one"] = lambda: ask(start=0, count=count, batch=1)
        found = turns(works, asked.rounds)
    machine = describe()
    write_json(asked.out / "speed_efficientad.json", {"seconds": found, "machine": machine})
    write_text(
        asked.out / "speed_efficientad.md", page(found, len(pixels), asked.size, asked.peer_batch, machine)
    )


if __name__ == "__main__":
    main()
