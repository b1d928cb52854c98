"""Benchmarks: layouts of public data sets, a runner whose results are kept as they come, tables of them."""

from __future__ import annotations

from offnominal.bench.runner import Run, RunsFailedError, read_results, run_suite
from offnominal.bench.shift import run_shift
from offnominal.bench.tables import write_image_tables

__all__ = ["Run", "RunsFailedError", "read_results", "run_shift", "run_suite", "write_image_tables"]
