"""Speed and memory of the default image detector beside anomalib's PatchCore.

    python benchmarks/speed_image.py --data DIR --out results --peer-python FOLDER/venv/bin/python
        [--set ball_screw] [--images 200] [--many 5000] [--rounds 7] [--fit-rounds 3] [--encoder NAME]

Both sides get the same decoded pixels at model size, the same weights and levels, a bank of as many rows (1 %
of the patches) and the same threads, and take turns; figures are medians over the turns. An encoder whose
weights are not installed gets random ones, the same on both sides: they cost the same. Parts that are done
are kept in OUT/speed_image.json and not done again. Writes OUT/speed_image.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from offnominal.bench import layouts
from offnominal.bench.machine import describe, header, peak_bytes
from offnominal.core.errors import WeightsUnavailable
from offnominal.core.progress import say, shown
from offnominal.core.seeds import generator
from offnominal.core.store import read_json, write_json, write_text
from offnominal.core.threads import blas_threads, budget
from offnominal.data import resize, to_rgb
from offnominal.encoders import image_encoder
from offnominal.encoders.image import network
from offnominal.encoders.network import random_state
from offnominal.encoders.weights import resolve
from offnominal.normality import NearestRows
from offnominal.persistence import make
from offnominal.report import Column, markdown_table

DEFAULT = "efficientnet_lite2"
SIDE = 256
SERVER = Path(__file__).parent / "peers" / "anomalib_server.py"


class Peer:
    """The peer's process, asked over its standard input."""

    def __init__(self, python: Path, task: dict[str, Any], folder: Path) -> None:
        path = folder / "peer.json"
        path.write_text(json.dumps(task), encoding="utf-8")
        self._errors = (folder / "peer.err").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [os.path.abspath(python), str(SERVER.resolve()), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Ask for something and wait for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            said = self._errors.read().strip().splitlines() or ["nothing"]
            raise SystemExit(f"the peer stopped; the last it said: {said[-1]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._errors.close()


def decoded(source: layouts.LabelledImages, count: int) -> tuple[np.ndarray, float]:
    """Pixels (n, side, side, 3) uint8 at model size, and the milliseconds an image took to read."""
    pixels, seconds = [], 0.0
    for position in range(min(count, len(source))):
        began = time.perf_counter()
        image = source.read(position).value
        seconds += time.perf_counter() - began
        pixels.append(np.rint(resize(to_rgb(image), (SIDE, SIDE))).astype(np.uint8))
    return np.stack(pixels), 1e3 * seconds / len(pixels)


def seconds_of(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def turns(works: dict[str, Callable[[], float]], rounds: int, *, warm: bool = True) -> dict[str, list[float]]:
    """Seconds of each work, round by round in turn, after a round that warms up and does not count."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(0 if warm else 1, rounds + 1):
        for name, work in works.items():
            seconds = work()
            if number:
                found[name].append(seconds)
    return found


def precisions() -> list[str]:
    """Precisions the processor has units for."""
    return ["bf16", "fp32"] if describe()["bf16"] else ["fp32"]


def weights_of(encoder: str) -> str | None:
    """What a detector is told about the weights: nothing where they are installed, else random ones."""
    try:
        resolve(encoder)
    except WeightsUnavailable:
        return "random"
    return None


def rows_of(encoder: str, images: int) -> int:
    """Rows of a bank of 1 % of all patches."""
    grids = image_encoder(encoder, size=SIDE, weights=weights_of(encoder)).grids
    return int(images * max(height * width for height, width in grids) * 0.01)


def patchcore(encoder: str, precision: str, rows: int | None) -> Any:
    bank = {} if rows is None else {"bank_size": rows}
    return make("patchcore", encoder=encoder, weights=weights_of(encoder), precision=precision, **bank)


def fit_part(peer: Peer, encoder: str, pixels: np.ndarray, rounds: int) -> dict[str, Any]:
    """Fit on all images: ours with its calibration, the peer's features and coreset."""
    rows, images, warm = rows_of(encoder, len(pixels)), list(pixels), 16
    stages: list[dict[str, Any]] = []

    def theirs(count: int) -> float:
        stages.append(peer.ask(do="fit", count=count))
        return float(stages[-1]["features_s"] + stages[-1]["coreset_s"])

    def ours(precision: str, bank: int | None, method: str) -> Callable[[int], float]:
        def work(count: int) -> float:
            detector = patchcore(encoder, precision, bank)
            return seconds_of(lambda: getattr(detector, method)(images[:count]))

        return work

    works: dict[str, Callable[[int], float]] = {}
    for precision in precisions():
        works[f"ours {precision}"] = ours(precision, rows, "fit")
        works[f"ours {precision}, no decision"] = ours(precision, rows, "partial_fit")
        if encoder == DEFAULT:
            works[f"ours {precision}, default bank"] = ours(precision, None, "fit")
    works["anomalib"] = theirs
    for work in works.values():
        work(warm)
    counted = len(stages)
    found = turns({name: partial(work, len(pixels)) for name, work in works.items()}, rounds, warm=False)
    stages = stages[counted:]
    return {
        "seconds": found,
        "images": len(pixels),
        "bank_rows": stages[-1]["bank_rows"],
        "features_s": median(stage["features_s"] for stage in stages),
        "coreset_s": median(stage["coreset_s"] for stage in stages),
        "peer_peak": peer.ask(do="peak")["bytes"],
    }


def detection_part(
    peer: Peer, encoder: str, train: np.ndarray, test: np.ndarray, rounds: int, peer_batch: int
) -> dict[str, Any]:
    """Detection in batches and one by one, and the least it could take: backbone and search alone."""
    rows, images = rows_of(encoder, len(train)), list(test)
    peer.ask(do="fit", count=len(train))
    works: dict[str, Callable[[], float]] = {}
    for precision in precisions():
        detector = patchcore(encoder, precision, rows).fit(list(train))
        backbone = image_encoder(encoder, size=SIDE, precision=precision, weights=weights_of(encoder))
        search = NearestRows(detector.bank_, precision=precision)
        (features,) = detector.features.encode(test)
        queries = features.reshape(-1, features.shape[-1])

        def all_of(detector: Any = detector) -> float:
            return seconds_of(lambda: list(detector.detect(images)))

        def singly(detector: Any = detector) -> float:
            return seconds_of(lambda: [list(detector.detect([image])) for image in images])

        def least(backbone: Any = backbone, search: Any = search, queries: Any = queries) -> float:
            with blas_threads():
                return seconds_of(lambda: backbone.encode(test)) + seconds_of(lambda: search.search(queries))

        works[f"ours {precision}"] = all_of
        works[f"ours {precision}, one by one"] = singly
        works[f"backbone + search {precision}"] = least
    start, count = len(train), len(test)
    works["anomalib"] = lambda: float(
        peer.ask(do="score", start=start, count=count, batch=peer_batch)["seconds"]
    )
    works["anomalib, one by one"] = lambda: float(
        peer.ask(do="score", start=start, count=count, batch=1)["seconds"]
    )
    return {
        "seconds": turns(works, rounds),
        "images": len(test),
        "bank_rows": rows,
        "peer_batch": peer_batch,
    }


def memory_of(data: Path, name: str, count: int) -> dict[str, Any]:
    """Peak memory of a fit on so many images and a detection of 200, at the default budget; own process."""
    split = layouts.load(name, data)
    repeated = split.train.subset([at % len(split.train) for at in range(count)])
    loaded = peak_bytes()
    began = time.perf_counter()
    detector = make("patchcore").fit(repeated)
    fit = time.perf_counter() - began
    fitted = peak_bytes()
    for _ in detector.detect(split.test.subset(range(min(200, len(split.test))))):
        pass
    return {"images": count, "loaded": loaded, "fit": fitted, "peak": peak_bytes(), "fit_s": fit}


def memory_part(data: Path, name: str, counts: list[int]) -> list[dict[str, Any]]:
    found = []
    for count in counts:
        command = [sys.executable, __file__, "--data", str(data), "--set", name, "--memory", str(count)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
        say(f"memory with {count} images: {found[-1]['peak'] / 1e6:.0f} MB")
    return found


def import_part(rounds: int) -> dict[str, list[float]]:
    """Seconds a fresh interpreter takes with each import, less nothing: the bare start is a row."""

    def fresh(code: str) -> Callable[[], float]:
        return lambda: seconds_of(lambda: subprocess.run([sys.executable, "-c", code], check=True))

    codes = {"nothing": "pass", "numpy": "import numpy", "offnominal": "import offnominal"}
    return turns({name: fresh(code) for name, code in codes.items()}, rounds)


@contextlib.contextmanager
def the_peer(python: Path | None, encoder: str, pixels: np.ndarray) -> Iterator[Peer]:
    """The peer's process on these pixels."""
    if python is None:
        raise SystemExit("this part needs --peer-python (see benchmarks/peers/setup.py)")
    folder = Path(tempfile.mkdtemp())
    np.save(folder / "images.npy", pixels)
    weights = folder / "weights.npz"
    if weights_of(encoder):
        np.savez(weights, **random_state(network(encoder), generator(0, "encoders", encoder)))
    else:
        weights = resolve(encoder).path
    levels = image_encoder(encoder, size=SIDE, weights=weights_of(encoder)).levels
    task = {
        "model": "patchcore",
        "backbone": encoder,
        "layers": list(levels),
        "image_size": SIDE,
        "weights": str(weights),
        "images": str(folder / "images.npy"),
        "threads": budget(),
        "coreset_ratio": 0.01,
    }
    peer = Peer(python, task, folder)
    try:
        yield peer
    finally:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            peer.close()
        shutil.rmtree(folder, ignore_errors=True)


def ratio(found: dict[str, list[float]], over: str, under: str) -> float:
    """Median over the rounds of one work's seconds over another's."""
    return median(a / b for a, b in zip(found[over], found[under], strict=True))


def page(parts: dict[str, Any]) -> str:
    text = header(
        "Speed and memory of image detection",
        [
            "python benchmarks/peers/setup.py FOLDER",
            "python benchmarks/speed_image.py --data DIR --out results --peer-python FOLDER/venv/bin/python",
        ],
        [part["machine"] for part in parts.values()],
    )
    text += (
        "PatchCore at 256 × 256: the same pixels, weights, levels, bank rows and "
        "threads on both sides, in turns; medians over the turns, ratios within a turn. Ours from decoded "
        "pixels to records with score, verdict, map and regions; the peer's from normalised tensors to score "
        "and map.\n"
    )
    for name, part in parts.items():
        work, _, encoder = name.partition(" ")
        if work == "detection":
            text += f"\n## Detection, {encoder}\n\n{_detection_table(part)}"
        elif work == "fit":
            text += f"\n## Fit, {encoder}\n\n{_fit_table(part)}"
    if "memory" in parts:
        text += f"\n## Peak memory\n\n{_memory_table(parts)}"
    if "import" in parts:
        found = parts["import"]["found"]
        rows = [{"import": name, "ms": 1e3 * median(seconds)} for name, seconds in found.items()]
        text += (
            f"\n## Import\n\n{markdown_table(rows, ['import', Column('ms', 'ms, whole interpreter', 0)])}\n"
        )
        text += f"`import offnominal` takes {ratio(found, 'offnominal', 'numpy'):.2f} × `import numpy`, "
        text += "interpreter start included on both sides.\n"
    return text


def _detection_table(part: dict[str, Any]) -> str:
    found, count = part["found"]["seconds"], part["found"]["images"]
    rows = []
    for name, seconds in found.items():
        row: dict[str, Any] = {
            "what": name,
            "rate": count / median(seconds),
            "ms": 1e3 * median(seconds) / count,
        }
        if name.startswith("ours"):
            peer = "anomalib, one by one" if name.endswith("one by one") else "anomalib"
            row["faster"] = ratio(found, peer, name)
            least = f"backbone + search {name.split()[1].rstrip(',')}"
            if not name.endswith("one by one"):
                row["over"] = ratio(found, name, least)
        rows.append(row)
    columns: list[str | Column] = [
        "what",
        Column("rate", "images/s", 1),
        Column("ms", "ms/image", 2),
        Column("faster", "times the peer's speed", 2),
        Column("over", "of backbone + search", 2),
    ]
    text = markdown_table(rows, columns)
    text += f"\n{count} images, bank of {part['found']['bank_rows']} rows; the peer in batches of "
    text += f"{part['found']['peer_batch']}. Decoding, on one thread and in none of these: "
    return text + f"{part['decode_ms']:.2f} ms/image.\n"


def _fit_table(part: dict[str, Any]) -> str:
    found = part["found"]
    rows: list[dict[str, Any]] = []
    for name, seconds in found["seconds"].items():
        row: dict[str, Any] = {"what": name, "seconds": median(seconds)}
        if name.startswith("ours"):
            row["faster"] = ratio(found["seconds"], "anomalib", name)
        rows.append(row)
    columns: list[str | Column] = [
        "what",
        Column("seconds", "s", 2),
        Column("faster", "times the peer's speed", 1),
    ]
    return (
        markdown_table(rows, columns)
        + f"\n{found['images']} images, bank of {found['bank_rows']} rows. Ours with the 5-fold calibration "
        + "of its decision, or without a decision (`partial_fit`); the peer has none, and takes "
        + f"{found['features_s']:.1f} s of features and {found['coreset_s']:.1f} s of coreset.\n"
    )


def _memory_table(parts: dict[str, Any]) -> str:
    rows: list[dict[str, Any]] = [
        {
            "what": "ours, default bank",
            "images": entry["images"],
            "loaded": entry["loaded"] / 1e6,
            "peak": entry["peak"] / 1e6,
            "fit": entry["fit_s"],
        }
        for entry in parts["memory"]["found"]
    ]
    if (fit := f"fit {DEFAULT}") in parts:
        found = parts[fit]["found"]
        rows.append(
            {
                "what": "anomalib",
                "images": found["images"],
                "peak": found["peer_peak"] / 1e6,
                "fit": median(found["seconds"]["anomalib"]),
            }
        )
    columns: list[str | Column] = [
        "what",
        Column("images", "training images"),
        Column("loaded", "after imports MB", 0),
        Column("peak", "peak MB", 0),
        Column("fit", "fit s", 1),
    ]
    return markdown_table(rows, columns) + (
        "\nResident memory of the whole process, from files, at the default budget; where there are more "
        "images than the set has, it is repeated.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--set", default="ball_screw")
    parser.add_argument("--encoder", default=DEFAULT)
    parser.add_argument("--images", type=int, default=200, help="images that are fitted, and detected")
    parser.add_argument("--many", type=int, default=5000, help="training images of the large memory run")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--fit-rounds", type=int, default=3)
    parser.add_argument("--peer-batch", type=int, default=8)
    parser.add_argument("--parts", default="import,detection,fit,memory")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.memory:
        print(json.dumps(memory_of(asked.data, asked.set, asked.memory)))
        return
    kept = asked.out / "speed_image.json"
    parts: dict[str, Any] = read_json(kept) if kept.is_file() else {}

    def keep(name: str, found: Any, **more: Any) -> None:
        parts[name] = {"found": found, "machine": describe(), **more}
        write_json(kept, parts)
        write_text(asked.out / "speed_image.md", page(parts))
        say(f"{name} is done")

    with shown():
        split = layouts.load(asked.set, asked.data)
        train, decode = decoded(split.train, asked.images)
        test, _ = decoded(split.test, asked.images)
        for work in asked.parts.split(","):
            name = f"{work} {asked.encoder}" if work in ("fit", "detection") else work
            if name in parts:
                continue
            if work == "import":
                keep(name, import_part(3 * asked.rounds))
            elif work == "memory":
                keep(name, memory_part(asked.data, asked.set, [asked.images, asked.many]))
            elif work == "fit":
                with the_peer(asked.peer_python, asked.encoder, train) as peer:
                    keep(name, fit_part(peer, asked.encoder, train, asked.fit_rounds))
            elif work == "detection":
                # one file of pixels serves both: the training images come first
                with the_peer(asked.peer_python, asked.encoder, np.concatenate([train, test])) as peer:
                    found = detection_part(peer, asked.encoder, train, test, asked.rounds, asked.peer_batch)
                keep(name, found, decode_ms=decode)
            else:
                raise SystemExit(f"there is no part {work!r}; there are import, detection, fit and memory")
    write_text(asked.out / "speed_image.md", page(parts))


if __name__ == "__main__":
    main()
