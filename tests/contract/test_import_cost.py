"""What an import brings along."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import offnominal as off

HEAVY = {
    "PIL", "click", "faiss", "jinja2", "onnx", "onnxruntime", "openvino", "pandas", "rich", "scipy",
    "skimage", "sklearn", "tifffile", "torch",
}  # fmt: skip
PACKAGE = Path(off.__file__).parent


def _imported(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys; print(json.dumps(list(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


@pytest.mark.parametrize(
    "code",
    [
        "import offnominal",
        "import offnominal; offnominal.catalogue()",
        "import offnominal; offnominal.make; offnominal.load; offnominal.Detector",
        "import offnominal; [offnominal.make(c.name, c.modality) for c in offnominal.catalogue()]",
        "import offnominal; offnominal.make('patchcore').get_params(); offnominal.make('patchcore').clone()",
    ],
)
def test_import_brings_nothing_heavy(code: str) -> None:
    assert not _imported(code) & HEAVY


def test_import_alone_brings_no_numpy() -> None:
    assert "numpy" not in _imported("import offnominal")


def test_no_module_takes_what_another_room_keeps_private() -> None:
    taken = []
    for file in sorted(PACKAGE.rglob("*.py")):
        room = file.relative_to(PACKAGE).parts[0]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("offnominal."):
                continue
            there = (node.module or "").split(".")
            private = [alias.name for alias in node.names if re.match(r"_[a-z]", alias.name)]
            private += [part for part in there if re.match(r"_[a-z]", part)]
            if private and there[1] != room:
                taken.append(f"{file.relative_to(PACKAGE)} takes {private} from {node.module}")
    assert not taken


def test_layers_hold() -> None:
    root = PACKAGE.parent.parent
    if not (root / "pyproject.toml").is_file():
        pytest.skip("an installed package brings no pyproject.toml")
    pytest.importorskip("importlinter")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as run; run()",
            "--no-cache",
        ],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
