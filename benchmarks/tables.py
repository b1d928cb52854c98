"""Pages of finished benchmark runs.

    python benchmarks/tables.py results docs/benchmarks

Writes ``image.md`` and ``image.csv`` from the runs of ``offnominal bench image``, and where there are runs of
the peer (``benchmarks/image_accuracy.py``) also ``image_peer.md`` and ``image_peer.csv``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from image_accuracy import PAIRS

from offnominal.bench import read_results, write_image_tables
from offnominal.bench.comparison import write_comparison
from offnominal.bench.runner import image_detectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    records = read_results(asked.results)
    if not records:
        raise SystemExit(f"{asked.results}: no finished run; run offnominal bench first")
    defaults = [record for record in records if record["label"] in image_detectors()]
    written = write_image_tables(defaults, asked.out) if defaults else []
    if any(record["label"] in PAIRS.values() for record in records):
        written += write_comparison(records, asked.results, asked.out, PAIRS)
    for path in written:
        print(path)


if __name__ == "__main__":
    main()
