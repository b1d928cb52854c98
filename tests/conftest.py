from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# Workers side by side with two threads each are several times slower than with one, and what a test starts
# inherits this. Before numpy, which reads it once.
if "PYTEST_XDIST_WORKER" in os.environ:
    for _name in ("OFFNOMINAL_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(_name, "1")

import numpy as np
import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of real data sets; the test is skipped where there is none."""
    root = os.environ.get("OFFNOMINAL_DATA")
    if not root:
        pytest.skip("OFFNOMINAL_DATA is not set: no real data on this machine")
    if not Path(root).is_dir():
        pytest.skip(f"OFFNOMINAL_DATA={root} is no folder")
    return Path(root)


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder of small random PNG files: ``image_folder("a.png", "b/c.png", size=(24, 32))``."""
    from PIL import Image

    def make(*names: str, size: tuple[int, int] = (24, 32), seed: int = 0, into: str = "images") -> Path:
        random = np.random.default_rng(seed)
        root = tmp_path / into
        root.mkdir(exist_ok=True)
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
        return root

    return make
