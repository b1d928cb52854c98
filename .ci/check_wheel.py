"""Check what a wheel carries: ``python .ci/check_wheel.py WHEEL``."""

from __future__ import annotations

import sys
import zipfile
from pathlib import PurePosixPath

NEEDED = (
    "offnominal/py.typed",
    "offnominal/cards.json",
    "offnominal/encoders/imagenet_classes.txt",
    "offnominal/report/templates/page.html",
    "offnominal/report/templates/script.js",
    "offnominal/report/templates/style.css",
)


def main(wheel: str) -> int:
    """Print what is missing from a wheel or too much in it; return the exit code."""
    names = zipfile.ZipFile(wheel).namelist()
    missing = [name for name in NEEDED if name not in names]
    tops = {PurePosixPath(name).parts[0] for name in names}
    strange = [top for top in tops if top != "offnominal" and not top.endswith(".dist-info")]
    strange += [name for name in names if "__pycache__" in name or "/test" in name]
    licences = [name for name in names if "/licenses/" in name]
    for name in missing:
        print(f"missing from the wheel: {name}", file=sys.stderr)
    for name in strange:
        print(f"should not be in the wheel: {name}", file=sys.stderr)
    if len(licences) < 2:
        print("the wheel needs LICENSE and NOTICE", file=sys.stderr)
    return int(bool(missing or strange or len(licences) < 2))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
