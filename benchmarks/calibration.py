"""Whether the false-alarm rate that was asked for is kept: many random splits of each set's normals.

    python benchmarks/calibration.py --data DIR --out results
        [--splits 200] [--sets a,b] [--detectors gaussian,patchcore] [--cap 200]

For each split, whole groups (the data set's, else near-duplicates) go to one half or the other; a detector is
fitted on one half, which calibrates its decision by its own cross-fitting, and judges the other. Images are
read and encoded once a set. Splits that are done are kept in OUT/calibration.jsonl and not done again. Writes
calibration.md, calibration.csv and calibration.png into --page (default OUT); the rates on official splits
come from OUT's runs of ``offnominal bench image``, where there are any.
"""

from __future__ import annotations

import argparse
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from cached_features import Pictures, add_line, encoded_once, read_lines

from offnominal import metrics
from offnominal.bench import layouts, read_results
from offnominal.bench.layouts import Entry, LabelledImages
from offnominal.bench.machine import describe, header, mean
from offnominal.bench.runner import chosen_sets
from offnominal.core.progress import say, shown
from offnominal.core.seeds import generator
from offnominal.core.source import Reference
from offnominal.core.store import read_json, write_json, write_text
from offnominal.data import resize, to_rgb
from offnominal.data.split import holdout, near_duplicate_groups, thumbnail
from offnominal.decide import Conformal
from offnominal.persistence import make
from offnominal.report import Column, csv_text, markdown_table

RATES = (0.01, 0.05, 0.10)
SIDE = 256
# small models: it is the decision that is studied, and it sees nothing but scores
PARAMETERS: dict[str, dict[str, Any]] = {"patchcore": {"bank_size": 200}, "gaussian": {"levels": (10, 19)}}


def pooled_normals(split: layouts.DatasetSplit, cap: int) -> LabelledImages:
    """Normals of training and test part together, a seeded choice of at most ``cap`` of them."""
    entries: list[Entry] = [
        entry for entry in [*split.train.entries, *split.test.entries] if entry.label == 0
    ]
    if len(entries) > cap:
        chosen = np.sort(generator(0, split.name, "calibration").permutation(len(entries))[:cap])
        entries = [entries[at] for at in chosen]
    return LabelledImages(split.name, split.train.folder, entries)


def pictures_of(pool: LabelledImages) -> Pictures:
    """The pool at model size, each image with its group."""
    images = [pool.read(position).value for position in range(len(pool))]
    alike = near_duplicate_groups(np.stack([thumbnail(image) for image in images]))
    references = [
        Reference(
            reference.item,
            reference.source,
            group=reference.group if reference.group is not None else f"alike {number}",
            product=reference.product,
            label=0,
        )
        for reference, number in zip(pool.references, alike, strict=True)
    ]
    small = [np.rint(resize(to_rgb(image), (SIDE, SIDE))).astype(np.uint8) for image in images]
    return Pictures(pool.name, references, small)


def one_split(pictures: Pictures, detector: str, number: int) -> dict[str, Any]:
    """Fit on one half, judge the other at every rate."""
    fitting, held = holdout(pictures.references, 0.5, number)
    model = make(detector, "image", seed=number, **PARAMETERS.get(detector, {}))
    model.fit(pictures.subset(fitting))
    rest = pictures.subset(held)
    scores = model.anomaly_score(rest)
    products = [reference.product for reference in rest.references]
    decision = model.decision_
    assert decision is not None
    state = decision.state()
    found: dict[str, Any] = {
        "set": pictures.name,
        "detector": detector,
        "split": number,
        "calibrated": len(state["scores"]),
        "held": len(scores),
        "held_groups": len({reference.group for reference in rest.references}),
        "rates": {},
        "by_item": {},
        "bases": {},
    }
    for rate in RATES:
        for key, by_group in (("by_item", False), ("rates", True)):
            judge = Conformal.restore({"false_alarm_rate": rate, "by_group": by_group}, state)
            verdicts = judge.judge(scores, products)
            normal = np.zeros(len(scores), np.int64)
            realised = metrics.realised_false_alarm_rate(normal, verdicts.anomalous)
            found[key][str(rate)] = None if np.isnan(realised) else realised
        found["bases"][str(rate)] = judge.report()["basis"]
        found["groups"] = judge.report()["groups"]
        if rate == RATES[0]:
            found["p_values"] = [
                round(float(value), 6) if np.isfinite(value) else None for value in verdicts.p_value
            ]
    return found


def summary(records: list[dict[str, Any]], official: dict[tuple[str, str], float]) -> list[dict[str, Any]]:
    """A row a set, detector and rate."""
    rows = []
    for name, detector in sorted({(record["set"], record["detector"]) for record in records}):
        there = [r for r in records if (r["set"], r["detector"]) == (name, detector)]
        for rate in RATES:
            row = {
                "set": name,
                "detector": detector,
                "asked": rate,
                "splits": sum(r["rates"][str(rate)] is not None for r in there),
                **{
                    key: int(np.median([r[key] for r in there]))
                    for key in ("calibrated", "groups", "held", "held_groups")
                },
                "official": official.get((name, detector)) if rate == RATES[0] else None,
            }
            by_item = [r["by_item"][str(rate)] for r in there if r["by_item"][str(rate)] is not None]
            row["by_item"] = mean(by_item) if by_item else None
            usable = [r for r in there if r["rates"][str(rate)] is not None]
            if len(usable) < 0.9 * len(there):
                rows.append(row | {"holds": "no verdict"})
                continue
            realised = np.array([r["rates"][str(rate)] for r in usable])
            error = float(realised.std(ddof=1) / sqrt(len(realised)))
            expected = [metrics.false_alarm_spread(r["groups"], r["held_groups"], rate) for r in usable]
            spread = sqrt(mean([std**2 for _, std in expected]))
            rows.append(
                row
                | {
                    "mean": float(realised.mean()),
                    "two_errors": 2 * error,
                    "holds": "yes" if realised.mean() <= rate + 2 * error else "no",
                    "expected_mean": mean([expectation for expectation, _ in expected]),
                    "std": float(realised.std(ddof=1)),
                    "expected_std": spread,
                    "basis": " ".join(sorted({r["bases"][str(rate)] or "none" for r in usable})),
                }
            )
    return rows


def official_rates(out: Path) -> dict[tuple[str, str], float]:
    """Realised false-alarm rates on official splits at 1 %, mean over seeds, from finished benchmark runs."""
    found: dict[tuple[str, str], list[float]] = {}
    for record in read_results(out):
        if record.get("limit") is None and record.get("false_alarm_rate") is not None:
            found.setdefault((record["set"], record["label"]), []).append(record["false_alarm_rate"])
    return {key: mean(values) for key, values in found.items()}


def p_value_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How the p-values of held-out normals compare with the uniform distribution, pooled over splits."""
    rows = []
    for (name, detector), values in pooled_p_values(records).items():
        found = metrics.p_value_uniformity(values)
        rows.append(
            {
                "set": name,
                "detector": detector,
                "p_values": found.n,
                "excess": found.excess,
                **{f"at_{level}": float((values <= level).mean()) for level in (0.01, 0.05, 0.1, 0.5)},
            }
        )
    return rows


def pooled_p_values(records: list[dict[str, Any]]) -> dict[tuple[str, str], np.ndarray]:
    pooled: dict[tuple[str, str], list[float]] = {}
    for record in records:
        values = [value for value in record["p_values"] if value is not None]
        pooled.setdefault((record["set"], record["detector"]), []).extend(values)
    return {key: np.array(values) for key, values in sorted(pooled.items()) if values}


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """Share of p-values at or below each level, a line a set, one panel a detector."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pooled = pooled_p_values(records)
    detectors = sorted({detector for _, detector in pooled})
    figure, panels = pyplot.subplots(
        1, len(detectors), figsize=(5.2 * len(detectors), 4.8), squeeze=False, layout="constrained"
    )
    levels = np.geomspace(0.005, 1, 200)
    colours = {name: f"C{at % 10}" for at, name in enumerate(sorted({name for name, _ in pooled}))}
    for panel, detector in zip(panels[0], detectors, strict=True):
        panel.fill_between(levels, levels, 1.2, color="0.92", lw=0, label="too many false alarms")
        panel.plot(levels, levels, color="0.3", lw=1, ls="--", label="uniform")
        for (name, other), values in pooled.items():
            if other == detector:
                share = np.searchsorted(np.sort(values), levels, side="right") / len(values)
                # nothing at all cannot be drawn on a logarithmic axis
                panel.plot(
                    levels, np.where(share > 0, share, np.nan), color=colours[name], lw=1.4, label=name
                )
        panel.set(
            title=detector,
            xscale="log",
            yscale="log",
            xlim=(levels[0], 1),
            ylim=(1e-3, 1.2),
            xlabel="level",
            ylabel="share of held-out normals with p ≤ level",
        )
        panel.grid(alpha=0.3, which="both", lw=0.4)
    panels[0][-1].legend(fontsize=7, loc="lower right", framealpha=0.9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


KEYS = [
    "set",
    "detector",
    "asked",
    "splits",
    "calibrated",
    "groups",
    "held",
    "held_groups",
    "mean",
    "two_errors",
    "holds",
    "expected_mean",
    "std",
    "expected_std",
    "basis",
    "by_item",
    "official",
]

EXPLANATION = """\
For each split whole groups of normals (the data set's groups, else near-duplicates) go to one half or the
other; the detector is fitted on one half, which also calibrates its conformal decision by 5-fold
cross-fitting, and judges the other half. Normals are those of the training and the test part together, at
most {cap} a set. PatchCore keeps a bank of 200 rows here, and the Gaussian has two levels: it is the decision
that is studied. Each group counts as one (`Conformal(by_group=True)`): held-out images are of new groups.

`holds`: the mean realised rate is at most the asked one plus two standard errors over the splits; no verdict:
the groups are too few to reach the rate. The expected mean and deviation are those of the beta-binomial law
for these numbers of calibrating and held-out groups. `counting images`: the mean rate where each image counts
(`by_group=False`, and the default where groups are too few), which is not promised for new groups.
`official split`: the realised rate on the set's own test part, mean over seeds with default
parameters, reported and not gated, for test parts may differ from training parts.
"""


def write_page(
    records: list[dict[str, Any]], machine: dict[str, Any], cap: int, out: Path, folder: Path
) -> None:
    rows = summary(records, official_rates(out))
    text = header(
        "Calibration: the false-alarm rate that is asked for, and the one that comes",
        ["python benchmarks/calibration.py --data DIR --out results --page docs/benchmarks"],
        [machine],
    )
    text += EXPLANATION.format(cap=cap)
    columns: list[str | Column] = [
        "set",
        "detector",
        Column("asked", percent=True, digits=0),
        "splits",
        Column("calibrated", "calibrating images"),
        Column("groups", "their groups"),
        Column("held", "held-out images"),
        Column("held_groups", "their groups"),
        Column("mean", "realised, mean", percent=True, digits=2),
        Column("two_errors", "± two standard errors", percent=True, digits=2),
        "holds",
        Column("expected_mean", "expected mean", percent=True, digits=2),
        Column("std", "realised, std", percent=True, digits=2),
        Column("expected_std", "beta-binomial std", percent=True, digits=2),
        "basis",
        Column("by_item", "counting images", percent=True, digits=2),
        Column("official", "official split", percent=True, digits=1),
    ]
    text += f"\n{markdown_table(rows, columns)}"
    judged = [row["holds"] for row in rows if row["holds"] != "no verdict"]
    text += f"\nHolds in {judged.count('yes')} of {len(judged)} rows with verdicts.\n"
    text += "\n## p-values of held-out normals\n\n"
    text += "Super-uniform p-values lie on or below the diagonal.\n\n![p-values](calibration.png)\n\n"
    shares: list[str | Column] = [
        Column(f"at_{level}", f"share with p ≤ {level}", 4) for level in (0.01, 0.05, 0.1, 0.5)
    ]
    text += markdown_table(
        p_value_rows(records),
        [
            "set",
            "detector",
            Column("p_values", "p-values"),
            *shares,
            Column("excess", "greatest excess over uniform", 4),
        ],
    )
    write_text(folder / "calibration.csv", csv_text(rows, KEYS))
    draw(records, folder / "calibration.png")
    write_text(folder / "calibration.md", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--page", type=Path, help="folder of the page and its figure, default --out")
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--sets", type=lambda text: text.split(","))
    parser.add_argument("--detectors", type=lambda text: text.split(","), default=["gaussian", "patchcore"])
    parser.add_argument("--cap", type=int, default=200, help="normals of a set at most")
    asked = parser.parse_args()
    kept = asked.out / "calibration.jsonl"
    machine_kept = asked.out / "calibration_machine.json"
    done = {
        (record["set"], record["detector"], record["split"], record["cap"]): record
        for record in read_lines(kept)
    }
    wanted = []
    with shown():
        names = chosen_sets(asked.data, asked.sets)
        for name in names:
            keys = [(name, d, number, asked.cap) for d in asked.detectors for number in range(asked.splits)]
            wanted += keys
            missing = [key for key in keys if key not in done]
            if not missing:
                continue
            pictures = pictures_of(pooled_normals(layouts.load(name, asked.data), asked.cap))
            with encoded_once():
                for at, key in enumerate(missing, start=1):
                    with shown(False):
                        record = {**one_split(pictures, key[1], key[2]), "cap": asked.cap}
                    add_line(kept, record)
                    done[key] = record
                    if at % 20 == 0 or at == len(missing):
                        say(f"{name}: {at} of {len(missing)} splits")
            write_json(machine_kept, describe())
    if not machine_kept.is_file():
        write_json(machine_kept, describe())
    write_page(
        [done[key] for key in wanted], read_json(machine_kept), asked.cap, asked.out, asked.page or asked.out
    )


if __name__ == "__main__":
    main()
