"""The curve the defaults are chosen from: PatchCore's accuracy against latency and size, on validation parts.

    python benchmarks/defaults.py --data DIR --out results --page docs/benchmarks
        [--sets a,b] [--banks 500,1000,2000,4000,8000] [--sizes 224,256,320] [--cap 150]

Fits on each set's fitting part and measures on its validation part; no test image is looked at. Where the
validation part has no anomalies, defects are planted into its normals. Images are encoded once for each
choice of levels and size; latency is measured apart, with nothing kept. Measurements that are done are kept
in OUT/defaults.jsonl and not done again. Writes defaults.md, defaults.csv and defaults.png.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from cached_features import Pictures, add_line, encoded_once, read_lines

from offnominal import metrics
from offnominal.bench import layouts
from offnominal.bench.layouts import LabelledImages
from offnominal.bench.machine import describe, header, mean
from offnominal.bench.measures import SIDE, shrunk_mask
from offnominal.core.errors import BadItem
from offnominal.core.progress import say, shown
from offnominal.core.seeds import generator
from offnominal.core.source import Reference
from offnominal.core.store import write_text
from offnominal.core.threads import blas_threads
from offnominal.data import resize_map
from offnominal.detector import Detector
from offnominal.persistence import make
from offnominal.report import Column, csv_text, markdown_table
from offnominal.synth import generate

SETS = ["ball_screw", "brain_mri", "deep_pcb", "magnetic_tile"]
BANKS = [500, 1000, 2000, 4000, 8000]
LEVELS = [(10, 14, 19), (10, 19), (7, 15), (15, 19), (7, 14, 19), (6, 10, 14, 19)]
SIZES = [224, 256, 320]
TIMED = 16
ROUNDS = 5


def thinned(source: LabelledImages, cap: int) -> LabelledImages:
    """A seeded choice of at most ``cap`` images of each label."""
    kept: list[int] = []
    for label in (0, 1):
        at = np.flatnonzero(source.labels == label)
        if len(at) > cap:
            at = generator(0, source.name, f"defaults {label}").permutation(at)[:cap]
        kept += at.tolist()
    return source.subset(np.sort(np.array(kept, dtype=np.intp)))


def decoded(source: LabelledImages) -> Pictures:
    """Images of a source in memory, and their masks at the common size."""
    pixels = [source.read(at).value for at in range(len(source))]
    masks = []
    for at in range(len(source)):
        mask = source.mask(at)
        masks.append(None if mask is None else shrunk_mask(mask))
    return Pictures(source.name, source.references, pixels, masks)


def planted(normals: Pictures) -> Pictures:
    """The normals, and each of them once more with a planted defect; masks of all."""
    found = generate(normals.pixels, len(normals), seed=0)
    references = [Reference(f"planted {at}", normals.name, label=1) for at in range(len(found.items))]
    nothing = np.zeros((SIDE, SIDE), bool)
    return Pictures(
        normals.name,
        [*normals.references, *references],
        [*normals.pixels, *found.items],
        [*([nothing] * len(normals)), *(shrunk_mask(mask) for mask in found.masks)],
    )


def parts(name: str, data: Path, cap: int) -> tuple[Pictures, Pictures, bool]:
    """What is fitted on, what is measured on, and whether its anomalies are planted."""
    split = layouts.load(name, data)
    fitting = decoded(thinned(split.fitting, cap))
    validation = decoded(thinned(split.validation, min(cap, 75)))
    if any(reference.label == 1 for reference in validation.references):
        return fitting, validation, False
    return fitting, planted(validation), True


def scored(detector: Detector, source: Pictures) -> tuple[np.ndarray, list[np.ndarray]]:
    """Scores (n,) and maps at the common size."""
    scores, maps = [], []
    with blas_threads():
        for _, found in detector._score(source, range(len(source)), maps=True, own_size=False):
            if isinstance(found, BadItem):
                raise found
            scores.append(found[0])
            assert found[1] is not None
            maps.append(found[1] if found[1].shape == (SIDE, SIDE) else resize_map(found[1], (SIDE, SIDE)))
    return np.array(scores), maps


def latency(detector: Detector, source: Pictures) -> float:
    """Milliseconds an image from pixels at model size to score and map; median of rounds."""
    prepared = [detector._prepare(source.read(at)) for at in range(min(TIMED, len(source)))]
    seconds = []
    with blas_threads():
        for _ in range(ROUNDS + 1):
            began = time.perf_counter()
            batch = detector._collate(prepared)
            raw, places = detector._infer(batch)
            detector._assemble(batch, raw, places, own_size=False)
            seconds.append(time.perf_counter() - began)
    return 1e3 * median(seconds[1:]) / len(prepared)


def measure(fitting: Pictures, validation: Pictures, parameters: dict[str, Any]) -> dict[str, Any]:
    """Accuracy, and what it costs, of PatchCore with these parameters."""
    detector = make("patchcore", "image", **parameters)
    # learning without the cross-fitted decision: nothing here is judged
    detector.partial_fit(fitting)
    labels = np.array([reference.label for reference in validation.references])
    scores, maps = scored(detector, validation)
    known = [at for at, mask in enumerate(validation.masks) if mask is not None]
    pixel = float("nan")
    if any(labels[at] == 1 for at in known):
        pixel = metrics.pixel_auroc([validation.masks[at] for at in known], [maps[at] for at in known])
    return {
        "auroc": metrics.auroc(labels, scores),
        "pixel_auroc": None if np.isnan(pixel) else pixel,
        "bank_rows": len(detector.bank_),
        "model_mb": detector.bank_.nbytes / 1e6,
        "detector": detector,
    }


def over_sets(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a choice: accuracy averaged over sets, median latency, size of the largest bank."""
    chosen: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in records:
        chosen.setdefault((tuple(record["levels"]), record["size"], record["bank"]), []).append(record)
    most = max(len(there) for there in chosen.values())
    rows = []
    for (levels, size, bank), there in sorted(chosen.items()):
        if len(there) == most:  # a mean over fewer sets does not compare
            pixel = [r["pixel_auroc"] for r in there if r["pixel_auroc"] is not None]
            rows.append(
                {
                    "levels": " ".join(map(str, levels)),
                    "size": size,
                    "bank": bank,
                    "auroc": mean([r["auroc"] for r in there]),
                    "least": min(r["auroc"] for r in there),
                    "pixel_auroc": mean(pixel),
                    "ms": median(r["ms"] for r in there),
                    "model_mb": max(r["model_mb"] for r in there),
                }
            )
    for row in rows:
        row["front"] = not any(
            other["ms"] <= row["ms"] and _accuracy(other) >= _accuracy(row) and other is not row
            for other in rows
        )
    return rows


def _accuracy(row: dict[str, Any]) -> float:
    """Mean of image and pixel AUROC, the latter where it is known."""
    return mean([row["auroc"], row["pixel_auroc"]])


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Accuracy against latency and against size: colours are levels, marks are image sizes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, panels = pyplot.subplots(2, 2, figsize=(11, 8), sharey="row", sharex="col", layout="constrained")
    levels = sorted({row["levels"] for row in rows})
    sizes = sorted({row["size"] for row in rows})
    marks = dict(zip(sizes, "os^Dv*", strict=False))
    plain = ticker.FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "1246" else "")
    for line, key in enumerate(("auroc", "pixel_auroc")):
        for column, cost in enumerate(("ms", "model_mb")):
            panel = panels[line][column]
            for number, level in enumerate(levels):
                for size in sizes:
                    there = [row for row in rows if (row["levels"], row["size"]) == (level, size)]
                    there.sort(key=lambda row: row["bank"])
                    panel.plot(
                        [row[cost] for row in there],
                        [100 * row[key] for row in there],
                        color=f"C{number}",
                        marker=marks[size],
                        ms=5,
                        lw=0.8,
                        label=f"levels {level}, {size}²" if (line, column) == (0, 0) else None,
                    )
            panel.set(xscale="log")
            panel.xaxis.set_major_formatter(plain)
            panel.xaxis.set_minor_formatter(plain)
            panel.tick_params(axis="x", which="minor", labelsize=7)
            panel.grid(alpha=0.3, which="both", lw=0.4)
    panels[0][0].set_ylabel("image AUROC, mean of sets, %")
    panels[1][0].set_ylabel("pixel AUROC, mean of sets, %")
    panels[1][0].set_xlabel("ms an image")
    panels[1][1].set_xlabel("memory bank, MB")
    figure.legend(loc="outside right center", fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


EXPLANATION = """\
PatchCore fitted on at most {cap} images of each set's fitting part and measured on its validation part, one
seed; no test image is used. Sets: {sets}; those marked * have no anomalies in validation, so that defects
are planted into its normals (pixel AUROC from those and from sets with masks). `least` is the lowest image
AUROC of a set. Latency is from pixels at model size to score and map, in batches of {timed}, median of sets.
Choices on the front are those that no faster choice equals in the mean of image and pixel AUROC. Points of a
line in the figure are the bank sizes.
"""


def write_page(records: list[dict[str, Any]], cap: int, folder: Path) -> None:
    rows = over_sets(records)
    text = header(
        "How the defaults were chosen",
        ["python benchmarks/defaults.py --data DIR --out results --page docs/benchmarks"],
        [record["machine"] for record in records],
    )
    names = sorted({(record["set"], record["planted"]) for record in records})
    text += EXPLANATION.format(
        cap=cap, sets=", ".join(f"{name}{' *' * made}" for name, made in names), timed=TIMED
    )
    columns: list[str | Column] = [
        "levels",
        Column("size", "image size"),
        Column("bank", "bank size"),
        Column("auroc", "image AUROC", percent=True, digits=2),
        Column("least", percent=True, digits=2),
        Column("pixel_auroc", "pixel AUROC", percent=True, digits=2),
        Column("ms", "ms/image", 2),
        Column("model_mb", "bank MB", 1),
        "front",
    ]
    default = make("patchcore").get_params()
    text += f"\nThe defaults are levels {default['levels'] or 'of the encoder (10, 14, 19)'}, image size "
    text += f"{default['image_size']}, bank size {default['bank_size']}.\n"
    text += "\n![accuracy against latency and size](defaults.png)\n\n## On the front\n\n"
    text += markdown_table(sorted((row for row in rows if row["front"]), key=lambda row: row["ms"]), columns)
    text += f"\n## All choices\n\n{markdown_table(rows, columns)}"
    draw(rows, folder / "defaults.png")
    keys = ["set", "planted", "levels", "size", "bank", "auroc", "pixel_auroc", "bank_rows", "model_mb", "ms"]
    flat = [{**record, "levels": " ".join(map(str, record["levels"]))} for record in records]
    write_text(folder / "defaults.csv", csv_text(flat, keys))
    write_text(folder / "defaults.md", text)


def main() -> None:
    def numbers(text: str) -> list[int]:
        return [int(word) for word in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--page", type=Path, help="folder of the page and its figure, default --out")
    parser.add_argument("--sets", type=lambda text: text.split(","), default=SETS)
    parser.add_argument("--banks", type=numbers, default=BANKS)
    parser.add_argument("--sizes", type=numbers, default=SIZES)
    parser.add_argument("--levels", type=lambda text: [tuple(numbers(part)) for part in text.split("/")])
    parser.add_argument("--cap", type=int, default=150)
    asked = parser.parse_args()
    kept = asked.out / "defaults.jsonl"
    done = {(r["set"], tuple(r["levels"]), r["size"], r["bank"], r["cap"]): r for r in read_lines(kept)}
    wanted = []
    with shown():
        for name in asked.sets:
            choices = [(levels, size) for levels in asked.levels or LEVELS for size in asked.sizes]
            keys = [(name, levels, size, bank, asked.cap) for levels, size in choices for bank in asked.banks]
            wanted += keys
            if all(key in done for key in keys):
                continue
            fitting, validation, made = parts(name, asked.data, asked.cap)
            for levels, size in choices:
                missing = [bank for bank in asked.banks if (name, levels, size, bank, asked.cap) not in done]
                found = []
                with encoded_once(), shown(False):
                    for bank in missing:
                        parameters = {"levels": levels, "image_size": size, "bank_size": bank}
                        found.append((bank, measure(fitting, validation, parameters)))
                for bank, record in found:
                    line = {
                        "set": name,
                        "levels": list(levels),
                        "size": size,
                        "bank": bank,
                        "cap": asked.cap,
                        "planted": made,
                        "ms": latency(record.pop("detector"), validation),
                        **record,
                        "machine": describe(),
                    }
                    add_line(kept, line)
                    done[name, levels, size, bank, asked.cap] = line
                if missing:
                    say(f"{name}: levels {levels}, {size} pixels")
    write_page([done[key] for key in wanted], asked.cap, asked.page or asked.out)


if __name__ == "__main__":
    main()
