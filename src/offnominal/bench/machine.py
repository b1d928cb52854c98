"""What a result was measured on: processor, cores, versions, date."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal import __version__
from offnominal.core.threads import budget
from offnominal.encoders.runtime import computes_bf16, installed

PACKAGES = ("numpy", "openvino", "onnxruntime", "torch", "scipy", "pillow")


def processor(path: Path = Path("/proc/cpuinfo")) -> str:
    """Model name of the processor, as the system gives it."""
    try:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe() -> dict[str, Any]:
    """Describe this machine and the versions in use, as JSON."""
    versions = {"python": platform.python_version(), "offnominal": __version__}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "processor": processor(),
        "cores": os.cpu_count() or 1,
        "threads": budget(),
        "bf16": installed("openvino") and computes_bf16(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        "date": datetime.date.today().isoformat(),
    }


def header(title: str, commands: list[str], machines: list[Mapping[str, Any]]) -> str:
    """First lines of a result page: what it is, which commands made it, where and when.

    Parameters
    ----------
    title : str
    commands : list of str
        Shell commands that make the page again.
    machines : list of mappings
        As `describe` returns them; machines that differ are all named.
    """
    lines = [f"# {title}", "", "Made by", "", "```", *commands, "```", ""]
    by_kind: dict[str, set[str]] = {}
    for machine in machines:
        bf16 = "bf16 units" if machine["bf16"] else "no bf16 units"
        versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
        text = (
            f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads used, {bf16}, "
            f"{machine['system']}; {versions}"
        )
        by_kind.setdefault(text, set()).add(machine["date"])
    for text, dates in by_kind.items():
        when = min(dates) if len(dates) == 1 else f"{min(dates)} to {max(dates)}"
        lines.append(f"- {when}: {text}")
    return "\n".join([*lines, ""]) + "\n"


def peak_bytes() -> int:
    """Largest resident size of this process so far, 0 where the system does not tell."""
    # getrusage on Linux starts from the size of the process that started this one; this figure does not
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def mean(values: npt.ArrayLike) -> float:
    """Mean of the finite values; NaN where there are none."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    return float(finite.mean()) if len(finite) else float("nan")
