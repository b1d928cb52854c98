"""A million rows from a Parquet file: time and peak memory of the detectors whose cost grows with the rows.

    python benchmarks/big_tables.py [--rows 1000000] [--columns 20] [--detectors a,b] --page docs/benchmarks

Each detector is fitted on the file, with its calibration, in one process, and scores the file in another.
Writes big_tables.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from offnominal.bench.machine import describe, header
from offnominal.core.progress import say, shown
from offnominal.core.seeds import generator
from offnominal.core.store import write_text
from offnominal.report import Column, markdown_table

DETECTORS = "ecod,copod,hbos,loda,pca,iforest"
BUDGET = 2**30

FIT = """
import sys
import offnominal as off
off.make(sys.argv[1], "table").fit(sys.argv[2]).save(sys.argv[3])
"""
SCORE = """
import sys
import offnominal as off
off.load(sys.argv[3]).anomaly_score(sys.argv[2])
"""
TOLD = """
import json, resource
print(json.dumps({"peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--detectors", default=DETECTORS)
    parser.add_argument("--page", type=Path, default=Path("results"))
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, shown():
        file = Path(folder) / "rows.parquet"
        _write(file, asked.rows, asked.columns)
        for name in asked.detectors.split(","):
            model = str(Path(folder) / name)
            fit_s, fit_peak = _run(FIT, name, str(file), model)
            score_s, score_peak = _run(SCORE, name, str(file), model)
            found = {"fit": fit_s, "score": score_s, "peak": max(fit_peak, score_peak)}
            rows.append({"detector": name, **found, "within": "yes" if found["peak"] < BUDGET else "no"})
            say(f"{name}: {found['peak'] / 2**20:.0f} MiB")
        megabytes = file.stat().st_size / 2**20
    text = header(
        "Big tables: time and memory",
        ["python benchmarks/big_tables.py --page docs/benchmarks"],
        [describe()],
    )
    text += (
        f"{asked.rows} rows of {asked.columns} columns, correlated normal numbers, in a Parquet file of "
        f"{megabytes:.0f} MiB; default parameters, 5-fold calibration included. Peak memory is that of the "
        "larger process, times are of whole processes, interpreter and libraries included.\n\n"
    )
    for row in rows:
        row["mebibytes"] = row["peak"] / 2**20
    text += markdown_table(
        rows,
        [
            "detector",
            Column("fit", "fit s", 1),
            Column("score", "score s", 1),
            Column("mebibytes", "peak MiB", 0),
            Column("within", "within 1 GiB"),
        ],
    )
    write_text(asked.page / "big_tables.md", text)
    print(text)


def _run(work: str, *arguments: str) -> tuple[float, int]:
    """Seconds and peak bytes of a process."""
    began = time.perf_counter()
    command = [sys.executable, "-c", work + TOLD, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - began, int(json.loads(done.stdout)["peak"])


def _write(path: Path, rows: int, columns: int) -> None:
    import polars

    random = generator(0, "big tables")
    mixing = random.normal(size=(columns, columns)) / columns**0.5
    values = random.normal(size=(rows, columns)) @ mixing + random.normal(size=(rows, columns))
    polars.DataFrame({f"c{at}": np.ascontiguousarray(values[:, at]) for at in range(columns)}).write_parquet(
        path
    )


if __name__ == "__main__":
    main()
