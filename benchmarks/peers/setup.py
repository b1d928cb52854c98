"""Make a throw-away environment with the peer, anomalib, in a folder of your choice.

    python benchmarks/peers/setup.py FOLDER

Nothing of it is needed by offnominal, and the environment of offnominal is not touched. It takes several
gigabytes where the package index serves torch with CUDA libraries; pass ``--index-url`` for another build.
Afterwards ``FOLDER/venv/bin/python benchmarks/peers/anomalib_run.py TASK.json`` runs the peer.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("anomalib.txt")


def python_of(folder: Path) -> Path:
    """Path of the peer's interpreter."""
    return folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def main() -> None:
    parser = argparse.ArgumentParser(description="make a throw-away environment with anomalib")
    parser.add_argument("folder", type=Path, help="where the environment goes; delete it when done")
    parser.add_argument("--index-url", help="package index to take torch and torchvision from")
    given = parser.parse_args()
    python = python_of(given.folder)
    if not python.exists():
        venv.create(given.folder / "venv", with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    if given.index_url:
        pins = [line for line in REQUIREMENTS.read_text().splitlines() if line.startswith("torch")]
        subprocess.run([*pip, "--index-url", given.index_url, *pins], check=True)
    subprocess.run([*pip, "--requirement", str(REQUIREMENTS)], check=True)
    check = "import anomalib; print('anomalib', anomalib.__version__)"
    subprocess.run([str(python), "-c", check], check=True)


if __name__ == "__main__":
    main()
