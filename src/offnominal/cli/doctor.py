"""``offnominal doctor``: what is installed, and what to do about the rest."""

from __future__ import annotations

import os
import platform
import tempfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from offnominal.cli.console import Console
from offnominal.cli.console import command as command_of
from offnominal.cli.failures import FAILED

REQUIRED = (
    "numpy",
    "scipy",
    "openvino",
    "onnx",
    "pillow",
    "tifffile",
    "safetensors",
    "scikit-image",
    "jinja2",
    "rich",
)
EXTRAS = {
    "torch": ("torch", "methods that train, encoders on a GPU"),
    "onnx": ("onnxruntime", "a second runtime, the parity check of exports"),
    "faiss": ("faiss", "approximate search in very large memory banks"),
    "jpeg": ("simplejpeg", "faster JPEG decoding"),
    "sklearn": ("sklearn", "adaptors to and from scikit-learn"),
}


@click.command()
@command_of
def command(console: Console) -> int:
    """Say what is installed, which weights and runtimes there are, and what to do about the rest.

    The exit code is 1 where the main job cannot run.
    """
    checks = examine()
    ok = all(check["ok"] for check in checks if check["needed"])
    rows = [{**check, "state": _state(check)} for check in checks]
    console.table(rows, ["part", "state", "found"])
    console.say("What to do about the rest:")
    for check in checks:
        if not check["ok"]:
            console.say(f"  {check['part']}: {check['what_to_do']}")
    console.say()
    console.say("The main job can run." if ok else "The main job cannot run: see what is marked as missing.")
    console.result({"ok": ok, "checks": checks})
    return 0 if ok else FAILED


def _state(check: dict[str, Any]) -> str:
    return "ok" if check["ok"] else ("missing" if check["needed"] else "absent")


def examine() -> list[dict[str, Any]]:
    """Look at everything a run can depend on.

    Returns
    -------
    list of dict
        ``part``, ``ok``, ``needed`` (by the main job), ``found``, ``what_to_do``.
    """
    from offnominal import __version__

    checks = [
        _check(
            "offnominal", True, f"{__version__}, Python {platform.python_version()}, {platform.platform()}"
        )
    ]
    for name in REQUIRED:
        found = _version(name)
        checks.append(_check(name, found is not None, found or "", f"pip install {name}"))
    checks += [_threads(), *_runtime(), *_weights()]
    for extra, (module, purpose) in EXTRAS.items():
        there = find_spec(module) is not None
        remedy = f"for {purpose}: pip install 'offnominal[{extra}]'"
        checks.append(_check(f"extra {extra}", there, purpose if there else "", remedy, needed=False))
    checks.append(_writable("temporary folder", Path(tempfile.gettempdir()), needed=True))
    checks.append(_writable("current folder", Path.cwd(), needed=False))
    if os.environ.get("OFFNOMINAL_DATA"):
        data = Path(os.environ["OFFNOMINAL_DATA"])
        checks.append(
            _check(
                "OFFNOMINAL_DATA", data.is_dir(), str(data), "set it to a folder of data sets", needed=False
            )
        )
    return checks


def _check(part: str, ok: bool, found: str, remedy: str = "", *, needed: bool = True) -> dict[str, Any]:
    return {"part": part, "ok": ok, "needed": needed, "found": found, "what_to_do": "" if ok else remedy}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _threads() -> dict[str, Any]:
    from offnominal.core.threads import budget

    asked = os.environ.get("OFFNOMINAL_THREADS")
    try:
        found = f"{budget()}" + (f" (OFFNOMINAL_THREADS={asked})" if asked else "")
        return _check("threads", True, found)
    except ValueError as error:
        return _check("threads", False, str(asked), str(error))


def _runtime() -> list[dict[str, Any]]:
    """The default encoder, really run once."""
    import time

    import numpy as np

    from offnominal.encoders import image_encoder

    try:
        encoder = image_encoder()
        pixels = np.zeros((1, *encoder.size, 3), dtype=np.uint8)
        encoder.encode(pixels)
        began = time.perf_counter()
        encoder.encode(pixels)
        took = f"{1000 * (time.perf_counter() - began):.0f} ms an image alone"
    except Exception as error:
        return [
            _check(
                "default encoder", False, str(error).splitlines()[0], "see the lines on weights and runtimes"
            )
        ]
    return [
        _check("default encoder", True, f"{encoder.name} on {encoder.runtime}, {encoder.precision}, {took}")
    ]


def _weights() -> list[dict[str, Any]]:
    from offnominal.encoders import available

    default = "efficientnet_lite2"
    rows = []
    for entry in available():
        part = f"weights {entry.name}" + (f" ({entry.file})" if entry.file else "")
        rows.append(_check(part, entry.present, entry.where, entry.remedy, needed=entry.name == default))
    return rows


def _writable(part: str, folder: Path, *, needed: bool) -> dict[str, Any]:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return _check(part, True, f"{folder} is writable", needed=needed)
    except OSError as error:
        return _check(part, False, f"{folder}: {error.strerror or error}", "make it writable", needed=needed)
