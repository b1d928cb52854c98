"""Whether ``--detector auto`` chooses well on image sets it has not seen.

    python benchmarks/planner.py --data DIR --out results [--page docs/benchmarks]

Takes the runs of ``offnominal bench image`` in OUT, and a look at the normal images of each set. For each set
the rules are made anew from the other sets: in each branch (images that show a thing as a whole, and larger
ones) the detector with the highest mean AUROC on them. Regret is the AUROC of the one detector that is best
on the mean of the other sets, minus that of the choice. Writes planner.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from offnominal.bench import layouts, read_results
from offnominal.bench.machine import describe, header, mean
from offnominal.core.progress import say, shown
from offnominal.core.store import write_text
from offnominal.image import planner
from offnominal.report import Column, markdown_table

PEERS = "anomalib"
COVERED = 0.9
"""Share of the sets a detector must have run on to be compared."""
LEAST = 2
"""Other sets a branch needs for a choice of its own."""


def measured(out: Path) -> dict[str, dict[str, float]]:
    """AUROC by set and detector, mean over seeds, of detectors with default parameters.

    Detectors that have run on few of the sets are left out, then sets on which one of the others has not.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for record in read_results(out):
        plain = record.get("limit") is None and record["label"] == record["detector"]
        if plain and not record["label"].startswith(PEERS):
            found.setdefault(record["set"], {}).setdefault(record["label"], []).append(record["auroc"])
    counts: dict[str, int] = {}
    for each in found.values():
        for label in each:
            counts[label] = counts.get(label, 0) + 1
    usual = [label for label, count in counts.items() if count >= COVERED * len(found)]
    return {
        name: {label: mean(each[label]) for label in usual}
        for name, each in found.items()
        if all(label in each for label in usual)
    }


def best(of: dict[str, dict[str, float]], detectors: list[str]) -> str:
    """Detector with the highest mean over sets."""
    return max(detectors, key=lambda name: mean([each[name] for each in of.values()]))


def judged(name: str, table: dict[str, dict[str, float]], small: dict[str, bool]) -> dict[str, Any]:
    """The choice on a set by rules made without it."""
    others = {other: each for other, each in table.items() if other != name}
    detectors = sorted(set.intersection(*(set(each) for each in table.values())))
    alike = {other: each for other, each in others.items() if small[other] == small[name]}
    single = best(others, detectors)
    chosen = best(alike, detectors) if len(alike) >= LEAST else single
    ranked = max(detectors, key=lambda detector: table[name][detector])
    return {
        "chosen": chosen,
        "chosen_auroc": table[name][chosen],
        "single": single,
        "single_auroc": table[name][single],
        "regret": table[name][single] - table[name][chosen],
        "best": ranked,
        "best_auroc": table[name][ranked],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--page", type=Path, help="folder of the page, default --out")
    asked = parser.parse_args()
    table = measured(asked.out)
    seen = {}
    with shown():
        for name in table:
            seen[name] = planner.fingerprint(layouts.load(name, asked.data).train)
            say(f"{name}: {planner.plan(seen[name]).detector}")
    small = {name: max(found.height, found.width) <= planner.THUMBNAIL for name, found in seen.items()}
    rows = [
        {
            "set": name,
            "size": f"{seen[name].width} x {seen[name].height}",
            "alignment": seen[name].alignment,
            "places": seen[name].places,
            "now": planner.plan(seen[name]).detector,
            **judged(name, table, small),
        }
        for name in sorted(table)
    ]
    text = header(
        "The plan: which image detector auto takes",
        ["python benchmarks/planner.py --data DIR --out results --page docs/benchmarks"],
        [describe()],
    )
    text += (
        "Image AUROC, means over the seeds that were run. `chosen`: by rules made without the set. `single`: "
        "the one detector that is best on the mean of the other sets. `auto now`: by the rules that ship, "
        "made from all sets. `alignment` is the mean correlation with the mean image, `places` the share of "
        "grey variance between places.\n\n"
    )
    text += markdown_table(
        rows,
        [
            "set",
            "size",
            Column("alignment", digits=2),
            Column("places", digits=2),
            "chosen",
            Column("chosen_auroc", "AUROC", percent=True, digits=1),
            "single",
            Column("single_auroc", "AUROC", percent=True, digits=1),
            Column("regret", "regret", percent=True, digits=1),
            "best",
            Column("best_auroc", "AUROC", percent=True, digits=1),
            Column("now", "auto now"),
        ],
    )
    regret = mean([row["regret"] for row in rows])
    text += f"\nMean regret {100 * regret:.2f} points over {len(rows)} sets.\n"
    write_text((asked.page or asked.out) / "planner.md", text)
    print(text)


if __name__ == "__main__":
    main()
