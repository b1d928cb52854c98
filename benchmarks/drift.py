"""How often the drift tests call drift where there is none, and how soon they find it where there is.

    python benchmarks/drift.py --out docs/benchmarks [--streams 1000]

Simulated streams only: the truth has to be known. Writes OUT/drift.md; some minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from math import log, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from offnominal.bench.machine import describe, header
from offnominal.core.progress import say, shown
from offnominal.core.seeds import generator
from offnominal.core.store import write_text
from offnominal.decide.drift import Bettor, ScoreDrift, block_length, drift_test
from offnominal.report import Column, markdown_table

RATES = (0.01, 0.05)
LENGTH = 1_000
FIXED = 200  # streams that are also judged against a fixed reference
Random = np.random.Generator
Draw = Callable[[Random, int], np.ndarray]


def normal(random: Random, n: int) -> np.ndarray:
    return random.normal(size=n)


def heavy(random: Random, n: int) -> np.ndarray:
    return random.standard_t(2, size=n)


def tied(random: Random, n: int) -> np.ndarray:
    return np.round(random.exponential(size=n), 0)


def autocorrelated(rho: float) -> Draw:
    def draw(random: Random, n: int) -> np.ndarray:
        from scipy.signal import lfilter

        # long before the first score that is used, the stream has forgotten its start
        noise = random.normal(size=n + 500) * sqrt(1 - rho**2)
        return lfilter([1.0], [1.0, -rho], noise)[500:]

    return draw


CASES: list[tuple[str, Draw, int, bool]] = [
    ("normal", normal, 100, False),
    ("normal", normal, 1_000, False),
    ("Student t, 2 degrees of freedom", heavy, 200, False),
    ("exponential rounded to whole numbers", tied, 200, False),
    ("autoregressive .5, each score counts", autocorrelated(0.5), 2_000, False),
    ("autoregressive .5, blocks", autocorrelated(0.5), 2_000, True),
    ("autoregressive .9, blocks", autocorrelated(0.9), 10_000, True),
]


def highest(draw: Draw, reference: int, blocked: bool, number: int) -> tuple[float, float | None, int]:
    """Highest log wealth in a stream: with the growing reference, with a fixed one; and the block."""
    random = generator(number, "drift benchmark")
    scores = draw(random, reference + LENGTH * (10 if blocked else 1))
    old, new = scores[:reference], scores[reference:]
    block = block_length(old) if blocked else 1
    grown = ScoreDrift(block=block, seed=number).fit(old).watch(new).log_wealth.max()
    if number >= FIXED:
        return float(grown), None, block
    fixed, top = Bettor(), 0.0
    means = [part[: len(part) // block * block].reshape(-1, block).mean(axis=1) for part in (old, new)]
    ordered, ties = np.sort(means[0]), random.random(len(means[1]))
    above = len(ordered) - np.searchsorted(ordered, means[1], side="right")
    equal = len(ordered) - np.searchsorted(ordered, means[1], side="left") - above + 1
    for p_value in ((above + ties * equal) / (len(ordered) + 1)).tolist():
        top = max(top, fixed.bet(p_value))
    return float(grown), top, block


def false_alarms(streams: int) -> list[dict[str, Any]]:
    rows = []
    for name, draw, reference, blocked in CASES:
        found = [highest(draw, reference, blocked, number) for number in range(streams)]
        for rate in RATES:
            highest_of = [[entry[at] for entry in found if entry[at] is not None] for at in (0, 1)]
            shares = [float(np.mean(np.array(values) >= -log(rate))) for values in highest_of]
            error = sqrt(rate * (1 - rate) / streams)
            rows.append(
                {
                    "scores": name,
                    "reference": reference,
                    "block": int(np.median([entry[2] for entry in found])),
                    "rate": rate,
                    "share": shares[0],
                    "holds": "yes" if shares[0] <= rate + 2 * error else "no",
                    "strictly": "yes" if shares[0] <= rate else "no",
                    "fixed": shares[1],
                }
            )
        say(f"{name}, {reference}: {100 * rows[-1]['share']:.1f} % at {rate:g}")
    return rows


DRIFTS: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = [
    ("mean + 0.25 std", lambda x: x + 0.25),
    ("mean + 0.5 std", lambda x: x + 0.5),
    ("mean + 1 std", lambda x: x + 1),
    ("mean + 2 std", lambda x: x + 2),
    ("std × 1.5", lambda x: 1.5 * x),
    ("std × 0.5", lambda x: 0.5 * x),
    ("one score in ten + 4 std", lambda x: x + 4 * (np.arange(len(x)) % 10 == 5)),
]


def delays(streams: int, before: int = 500, reference: int = 500) -> list[dict[str, Any]]:
    rows = []
    for name, change in DRIFTS:
        found = []
        for number in range(streams):
            scores = generator(number, "drift delay").normal(size=reference + before + LENGTH)
            scores[reference + before :] = change(scores[reference + before :])
            test = ScoreDrift(0.01, seed=number).fit(scores[:reference])
            alarm = np.flatnonzero(test.watch(scores[reference:]).drifted)
            found.append(alarm[0] - before if len(alarm) else np.inf)
        waits = np.array(found)
        rows.append(
            {
                "drift": name,
                "found": float(np.isfinite(waits).mean()),
                "median": float(np.median(waits)) if np.isfinite(np.median(waits)) else None,
            }
        )
    return rows


def columns_called(
    trials: int, columns: int = 20, drifting: int = 5, rows: int = 200
) -> list[dict[str, Any]]:
    """False and true calls among columns, single rows and rows in groups."""
    found = []
    for name, grouped, told in (
        ("rows by themselves", False, False),
        ("rows in groups of 10, not told", True, False),
        ("rows in groups of 10, told", True, True),
    ):
        for share in (0, drifting):
            wrong, right, any_call = [], [], []
            for number in range(trials):
                random = generator(number, "drift columns", name)
                shared = random.normal(size=(2, rows, 1))
                values = (0.5 * shared + random.normal(size=(2, rows, columns))) / sqrt(1.25)
                if grouped:
                    level = np.repeat(random.normal(size=(2, rows // 10, columns)), 10, axis=1)
                    values = (values + level) / sqrt(2)
                values[1, :, :share] += 1.0 if grouped else 0.4
                lots = np.repeat(np.arange(rows // 10), 10)
                groups = (lots.tolist(), (lots + rows).tolist()) if told else None
                called = drift_test(values[0], values[1], groups=groups, seed=number).drifted
                wrong.append(called[share:].sum() / max(called.sum(), 1))
                right.append(called[:share].mean() if share else np.nan)
                any_call.append(called.any())
            found.append(
                {
                    "rows": name,
                    "drifting": f"{share} of {columns}",
                    "rate": float(np.mean(wrong)),
                    "error": float(np.std(wrong) / sqrt(trials)),
                    "found": float(np.mean(right)) if share else None,
                    "any": float(np.mean(any_call)),
                }
            )
            say(f"{name}, {share}: {found[-1]['rate']:.3f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--streams", type=int, default=1_000)
    asked = parser.parse_args()
    with shown():
        alarms = false_alarms(asked.streams)
        waits = delays(max(asked.streams // 5, 1))
        called = columns_called(max(asked.streams // 5, 1))
    command = "python benchmarks/drift.py --out docs/benchmarks"
    text = header("Drift: false alarms, and how soon it is found", [command], [describe()])
    text += (
        f"## A stream of scores, looked at after each\n\n{asked.streams} simulated streams without drift, "
    )
    text += (
        f"{LENGTH} scores each (ten times as many where they are blocked). `called` is the share of streams "
    )
    text += (
        "in which drift was ever called; `holds`: at most the asked rate plus two standard errors. Blocks "
    )
    text += (
        "are as long as `block_length` says of the reference. `fixed reference`: the same bets on p-values "
    )
    text += (
        "among the first scores only, which never grow: not what the product does, and why it does not.\n\n"
    )
    text += markdown_table(
        alarms,
        [
            "scores",
            Column("reference", "reference scores"),
            Column("block", "median block"),
            Column("rate", "asked", percent=True, digits=0),
            Column("share", "called", percent=True, digits=1),
            Column("holds"),
            Column("strictly", "at most the asked"),
            Column("fixed", "fixed reference", percent=True, digits=1),
        ],
    )
    text += "\nOf autocorrelated streams each score is not exchangeable with the others: without blocks the "
    text += "promise does not hold, and is not made.\n"
    text += "\n## How soon drift is found\n\n500 normal reference scores, 500 more "
    text += "without drift, then 1 000 with "
    text += f"it, at a false-alarm rate of 1 %; {max(asked.streams // 5, 1)} streams.\n\n"
    text += markdown_table(
        waits,
        [
            "drift",
            Column("found", "found in 1 000", percent=True, digits=0),
            Column("median", "median scores until then", digits=0),
        ],
    )
    text += f"\n## Two samples, column by column\n\n{max(asked.streams // 5, 1)} "
    text += "pairs of samples of 200 rows, 20 "
    text += (
        "correlated columns, false-discovery rate 5 %. `false` is the mean share of wrong calls among the "
    )
    text += "calls; drifting columns move by 0.4 standard deviations, 1 where rows come in groups.\n\n"
    text += markdown_table(
        called,
        [
            "rows",
            "drifting",
            Column("rate", "false", percent=True, digits=1),
            Column("error", "± standard error", percent=True, digits=1),
            Column("found", "drifting columns found", percent=True, digits=0),
            Column("any", "any call", percent=True, digits=0),
        ],
    )
    write_text(asked.out / "drift.md", text)
    print(text)


if __name__ == "__main__":
    main()
