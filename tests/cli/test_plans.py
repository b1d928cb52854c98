"""``--detector auto``: what is seen of the data, what is chosen, and a plan that can be read and edited."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

import offnominal as off
from offnominal.core.errors import BadSource
from offnominal.core.plan import Plan
from offnominal.data import images, tables
from offnominal.image import planner
from offnominal.table import planner as table_planner

Run = Callable[..., Result]


def _folder(root: Path, side: int, count: int = 24) -> Path:
    random = np.random.default_rng(0)
    root.mkdir()
    for number in range(count):
        pixels = random.normal(120, 9, (side, side, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{number:02}.png")
    return root


def test_aligned_objects_and_textures_are_told_apart() -> None:
    random = np.random.default_rng(0)
    y, x = np.mgrid[:90, :90]
    disc = 200.0 * ((y - 45) ** 2 + (x - 45) ** 2 < 900)
    board = [np.repeat((disc + random.normal(0, 4, (90, 90)) + 20)[..., None], 3, 2) for _ in range(8)]
    grain = [random.normal(100, 30, (90, 90, 3)) for _ in range(8)]
    as_bytes = [[image.clip(0, 255).astype(np.uint8) for image in kind] for kind in (board, grain)]
    first, second = (planner.fingerprint(images(kind)) for kind in as_bytes)
    assert first.aligned
    assert not first.texture
    assert second.texture
    assert not second.aligned
    assert (first.height, first.width, first.channels, first.items) == (90, 90, 3, 8)
    assert planner.fingerprint(images(as_bytes[0][:1])).alignment == pytest.approx(1)


def test_images_that_cannot_be_read_do_not_stop_a_plan(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "good", 80, 6)
    (folder / "broken.png").write_bytes(b"no image")
    assert planner.fingerprint(images(folder)).looked_at == 6
    only = tmp_path / "only"
    only.mkdir()
    (only / "broken.png").write_bytes(b"no image")
    with pytest.raises(BadSource, match="no usable image"):
        planner.fingerprint(images(only))


@pytest.mark.parametrize(("side", "detector"), [(32, "gaussian"), (96, "patchcore")])
def test_the_plan_is_written_and_followed(side: int, detector: str, tmp_path: Path, run: Run) -> None:
    folder, file = _folder(tmp_path / "good", side), tmp_path / "plan.json"
    first = run("fit", folder, "--plan", file, "--out", tmp_path / "model", "--set", "image_size=64")
    plan = Plan.read(file)
    assert plan.detector == off.load(tmp_path / "model").card.name == detector
    assert f"24 images of about {side} x {side} pixels" in first.output
    # edited, it is obeyed
    edited = json.loads(file.read_text()) | {"detector": "embedding_knn", "parameters": {"neighbours": 2}}
    file.write_text(json.dumps(edited))
    run("fit", folder, "--plan", file, "--out", tmp_path / "model", "--set", "image_size=64")
    model = off.load(tmp_path / "model")
    assert model.card.name == "embedding_knn"
    assert model.get_params()["neighbours"] == 2
    assert json.loads(file.read_text()) == edited


def test_tables_have_plans_too(tmp_path: Path, run: Run) -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(60, 3))
    lines = [",".join(f"{value:.3f}" for value in row) for row in rows]
    file = tmp_path / "rows.csv"
    file.write_text("\n".join(["a,b,c", *lines]) + "\n")
    run("fit", file, "--plan", tmp_path / "plan.json", "--out", tmp_path / "model")
    assert Plan.read(tmp_path / "plan.json").detector == "knn"
    many = table_planner.Fingerprint(items=10**6, looked_at=2000, numbers=3, words=1, missing=0.02)
    chosen = table_planner.plan(many)
    assert chosen.detector == "gmm"
    assert "2.0% of the rows lack values" in chosen.because[-1]
    rows[3, 1] = np.nan
    assert table_planner.fingerprint(tables(rows)).missing == pytest.approx(1 / 60, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a plan"),
        ("[1]", "not a plan"),
        ('{"modality": "image"}', "modality and detector"),
        ('{"modality": "image", "detector": "nothing"}', "nothing"),
        ('{"modality": "image", "detector": "patchcore", "speed": 3}', "speed"),
        ('{"modality": "image", "detector": "patchcore", "format": 99}', "format 99"),
        ('{"modality": "image", "detector": "patchcore", "parameters": [1]}', "parameters"),
        ('{"modality": "image", "detector": "patchcore", "because": "so"}', "because"),
        ('{"modality": "table", "detector": "knn"}', "plan for table"),
        ('{"modality": "image", "detector": "patchcore", "parameters": {"bank": 3}}', "bank"),
    ],
)
def test_what_is_no_plan_is_refused_by_name(text: str, said: str, tmp_path: Path, run: Run) -> None:
    code = 2 if said == "bank" else 1  # a wrong use of the command, or a wrong file
    folder = _folder(tmp_path / "good", 80, 3)
    file = tmp_path / "plan.json"
    file.write_text(text)
    result = run("fit", folder, "--plan", file, "--out", tmp_path / "model", code=code)
    assert said in result.output
    assert not (tmp_path / "model").exists()
    assert file.read_text() == text


def test_a_plan_goes_with_auto_only(tmp_path: Path, run: Run) -> None:
    folder = _folder(tmp_path / "good", 80, 3)
    arguments = ("fit", folder, "--detector", "padim", "--plan", tmp_path / "p.json", "--out", tmp_path / "m")
    result = run(*arguments, code=2)
    assert "--plan goes with --detector auto" in result.output
