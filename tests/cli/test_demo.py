"""The demo: honest material, and the main job on it from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import offnominal as off
from offnominal.cli.demo import run_demo
from offnominal.cli.photographs import (
    BANDS,
    CREDIT,
    CROP,
    MATERIALS,
    PLANTED_NOTE,
    TEST,
    TRAIN,
    lay_out,
    photograph,
)
from offnominal.core.errors import BadItem
from offnominal.data import images
from offnominal.synth import KINDS


def test_training_and_test_crops_do_not_share_a_pixel() -> None:
    assert max(TRAIN) + CROP < min(TEST), "a gap lies between"
    assert max(TEST) + CROP <= 512
    assert min(np.diff(TEST)) >= CROP
    assert min(np.diff(BANDS)) > CROP, "groups do not overlap"
    assert max(BANDS) + CROP <= 512


def test_photographs_are_in_the_installed_package_and_real() -> None:
    for name in MATERIALS:
        pixels = photograph(name)
        assert pixels.shape == (512, 512)
        assert pixels.std() > 10


def test_the_material_is_what_the_manifests_say(tmp_path) -> None:
    material = lay_out(tmp_path / "demo")
    good, new = images(material.good), images(material.new)
    assert len(good) >= 100, "a false-alarm rate of 1 % rests on ranks"
    assert {reference.product for reference in good.references} == set(MATERIALS)
    assert len({reference.group for reference in good.references}) == len(MATERIALS) * len(BANDS)
    labels = [reference.label for reference in new.references]
    assert (labels.count(1), labels.count(0), labels.count(-1)) == (12, 18, 1)
    for position, reference in enumerate(new.references):
        if reference.label == -1:
            with pytest.raises(BadItem, match="truncated"):
                new.read(position)
            continue
        value = new.read(position).value[..., 0]
        name, y, x = reference.item.removeprefix("new/").removesuffix(".png").split("-")
        whole = photograph(name)[int(y) : int(y) + CROP, int(x) : int(x) + CROP]
        mask = new.mask(position)
        if reference.label == 0:
            np.testing.assert_array_equal(value, whole)
            assert reference.item not in material.planted
        else:
            assert reference.kind == material.planted[reference.item]
            np.testing.assert_array_equal(mask, material.masks[reference.item])
            assert (value != whole)[mask].mean() > 0.8
    again = lay_out(tmp_path / "again")
    assert again.planted == material.planted
    for path in sorted((tmp_path / "demo").rglob("*.png")):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "demo")).read_bytes()


def test_the_demo_leaves_a_foreign_folder_alone(run, tmp_path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert "no earlier demo" in run("demo", "--out", tmp_path, code=1).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def records_of(folder: Path) -> dict[str, dict]:
    text = (folder / "results.jsonl").read_text(encoding="utf-8")
    return {line["item"]: line for line in map(json.loads, text.splitlines())}


def test_the_demo_tells_what_it_found_and_that_defects_are_planted(run, tmp_path, monkeypatch) -> None:
    whole = off.make

    def small(name: str, *rest: str, **parameters: object) -> off.Detector:
        return whole(name, *rest, **{"image_size": 96, "bank_size": 300, **parameters})

    monkeypatch.setattr("offnominal.persistence.make", small)
    folder = tmp_path / "demo"
    said = run("demo", "--out", folder).stdout
    assert PLANTED_NOTE in said
    assert CREDIT in said
    assert "of 12 planted defects" in said
    assert "gravel-truncated.png: is truncated" in said
    for kind in KINDS:
        assert said.count(f" {kind} ") == 3
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "planted" in page
    assert "CC0" in page
    assert "gravel-truncated.png" in page
    run("detect", folder / "model", folder / "new.csv", "--out", tmp_path / "r", "--quiet", code=3)
    by_hand = records_of(tmp_path / "r")
    demo = records_of(folder)
    assert set(demo) == set(by_hand)
    for item in set(demo) - {"new/gravel-truncated.png"}:
        assert by_hand[item]["score"] == pytest.approx(demo[item]["score"], rel=1e-5)


@pytest.mark.slow
def test_the_demo_finds_defects_where_they_are(tmp_path) -> None:
    told = run_demo(tmp_path / "demo")
    assert told.figures["image_auroc"] > 0.88
    assert told.figures["pixel_auroc"] > 0.9
    assert told.figures["found"] >= 6
    assert told.figures["false_alarms"] <= 2
    assert told.figures["unreadable"] == ["new/gravel-truncated.png"]
    new = images(tmp_path / "demo" / "new.csv")
    hit = 0
    records = records_of(tmp_path / "demo")
    for position, reference in enumerate(new.references):
        line = records[reference.item]
        if reference.label == 1 and line["anomalous"]:
            x0, y0, x1, y1 = line["regions"][0]["where"]
            hit += bool(new.mask(position)[y0:y1, x0:x1].any())
    assert hit >= told.figures["found"] - 1
