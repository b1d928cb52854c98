"""One thread budget over runtime, BLAS, decoding and workers."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path


def _container_quota(root: Path = Path("/sys/fs/cgroup")) -> float:
    """CPUs a Linux container may use, infinite where there is no quota."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota_us = int((root / "cpu/cpu.cfs_quota_us").read_text())
        period_us = int((root / "cpu/cpu.cfs_period_us").read_text())
        return math.inf if quota_us <= 0 else quota_us / period_us
    except (OSError, ValueError):
        return math.inf


def budget() -> int:
    """Threads this process may use, at least 1.

    ``OFFNOMINAL_THREADS`` where it is set, else what the processor affinity and the container allow.

    Raises
    ------
    ValueError
        ``OFFNOMINAL_THREADS`` is not a positive whole number.
    """
    asked = os.environ.get("OFFNOMINAL_THREADS")
    if asked:
        if not asked.isdecimal() or int(asked) < 1:
            raise ValueError(f"OFFNOMINAL_THREADS={asked!r}: must be a positive whole number")
        return int(asked)
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        allowed = os.cpu_count() or 1
    return max(1, math.floor(min(allowed, _container_quota())))


@contextlib.contextmanager
def blas_threads(count: int | None = None) -> Iterator[None]:
    """Hold every BLAS and OpenMP pool of the process to ``count`` threads (default: the budget)."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=count or budget()):
        yield
