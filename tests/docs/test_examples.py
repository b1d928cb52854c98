"""What README, CONTRIBUTING and the documentation tell people to type is there to be typed."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import offnominal as off
from offnominal.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if "```" in path.read_text(encoding="utf-8")
]
names = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


def blocks(page: Path, *languages: str) -> list[str]:
    kinds = "|".join(languages)
    return re.findall(
        rf"^```(?:{kinds})\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def _import(module: str, name: str) -> None:
    if not hasattr(importlib.import_module(module), name):
        importlib.import_module(f"{module}.{name}")


def test_there_are_pages_to_check() -> None:
    found = {page.relative_to(ROOT).as_posix() for page in PAGES}
    assert {"README.md", "CONTRIBUTING.md", "docs/index.md", "docs/tutorial.md"} <= found


@names
def test_imports_in_python_blocks_resolve(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)
            elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
                assert node.module
                for alias in node.names:
                    _import(node.module, alias.name)


@names
def test_detectors_and_methods_in_python_blocks_exist(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
                continue
            if node.value.id == "off":
                assert hasattr(off, node.attr), f"offnominal has no {node.attr}"
            if node.value.id == "detector" and not node.attr.endswith("_"):
                assert hasattr(off.Detector, node.attr) or node.attr == "card", node.attr
        for name, words in re.findall(r'off\.make\("(\w+)"(?:, ([^)]*))?\)', block):
            settings = {word.split("=")[0].strip(): 1 for word in words.split(",") if "=" in word}
            off.make(name, **settings)


@names
def test_commands_in_shell_blocks_are_accepted(page: Path) -> None:
    parent = click.Context(app, info_name="offnominal")
    for block in blocks(page, "bash", "sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if not words or words[0] != "offnominal":
                continue
            command = app.get_command(parent, words[1])
            assert command is not None, f"there is no command {words[1]}"
            with command.make_context(words[1], words[2:], parent=parent):
                pass  # parsing raises a usage error where an option is not known


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_relative_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (ROOT / target).exists(), f"{name} links to {target}"


@pytest.fixture
def mean_distance(monkeypatch: pytest.MonkeyPatch) -> Any:
    block = next(block for block in blocks(ROOT / "CONTRIBUTING.md", "python") if "@card(" in block)
    module = types.ModuleType("mean_distance_example")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(block, "CONTRIBUTING.md", "exec"), vars(module))
    return vars(module)["MeanDistance"]


def test_the_detector_that_contributing_walks_through_works(
    mean_distance: Any, image_folder: Callable[..., Path]
) -> None:
    good = image_folder(*(f"{i}.png" for i in range(6)), into="good", size=(32, 32))
    more = image_folder(*(f"{i}.png" for i in range(4)), into="more", size=(32, 32), seed=1)
    together = mean_distance(image_size=64).fit([good, more])
    merged = mean_distance(image_size=64).fit(good).merge(mean_distance(image_size=64).fit(more))
    np.testing.assert_allclose(merged.anomaly_score(good), together.anomaly_score(good), rtol=1e-5)
    plain = np.full((32, 32, 3), 200, np.uint8)
    assert together.anomaly_score([plain])[0] > together.anomaly_score(good).max()
