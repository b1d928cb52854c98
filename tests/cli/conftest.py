from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from offnominal.cli.app import app
from offnominal.core.seeds import generator


def surface(number: int, size: int = 48) -> np.ndarray:
    """A striped surface with noise of its own."""
    draw = generator(7, "surface", str(number))
    rows = np.arange(size)[:, None] * np.ones((1, size))
    pixels = 120 + 40 * np.sin(rows / 3) + draw.normal(0, 6, (size, size))
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder ``good`` of 120 normal surfaces, ``new`` of six with a spot on two and a file that is none."""
    root = tmp_path_factory.mktemp("parts")
    for name, numbers in (("good", range(120)), ("new", range(200, 206))):
        (root / name).mkdir()
        for number in numbers:
            pixels = surface(number)
            if number in (201, 204):
                pixels[20:30, 12:24] = 250
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    (root / "new" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    return root


@pytest.fixture(scope="session")
def run() -> Callable[..., Result]:
    """Run a command in this process: ``run("fit", folder, "--out", model)``."""

    def call(*arguments: Any, code: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, f"{result.exit_code}: {result.output}"
        assert "Traceback" not in result.output
        return result

    return call


@pytest.fixture(scope="session")
def fitted(parts: Path, run: Callable[..., Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the good parts; tests that change it take ``model``."""
    out = tmp_path_factory.mktemp("models") / "statistics"
    run("fit", parts / "good", "--detector", "pixel_statistics", "--set", "image_size=48", "--out", out)
    return out


@pytest.fixture
def model(fitted: Path, tmp_path: Path) -> Path:
    """A copy of the model, to change."""
    return Path(shutil.copytree(fitted, tmp_path / "model"))


@pytest.fixture(scope="session")
def many(parts: Path) -> Path:
    """Manifest of 1000 items on the good files: long enough to be killed in the middle."""
    path = parts / "many.csv"
    rows = [f"good/{number % 120}.png,{number % 10}" for number in range(1000)]
    path.write_text("path,group\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path
