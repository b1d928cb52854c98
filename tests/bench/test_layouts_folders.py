"""Layouts find each image, label, kind, mask and group of small trees in the published forms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from offnominal.bench import layouts
from offnominal.bench.layouts.ball_screw import group_of
from offnominal.bench.layouts.magnetic_tile import tiles
from offnominal.core.errors import BadSource


def draw(path: Path, seed: int = 0, spot: bool | None = None) -> Path:
    """Write a small random image, or a mask with or without one anomalous pixel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8)).astype(np.uint8)
    if spot is not None:
        pixels[:] = 0
        pixels[2, 3] = 255 * spot
    Image.fromarray(pixels).save(path)
    return path


def kinds(source) -> dict[str | None, int]:
    found: dict[str | None, int] = {}
    for entry in source.entries:
        found[entry.kind] = found.get(entry.kind, 0) + 1
    return found


@pytest.mark.parametrize(
    ("name", "folder", "good", "bad", "mask"),
    [
        ("mvtec/bottle", "mvtec_ad/bottle", "good", "dent", "000_mask.png"),
        ("mvtec/bottle", "mvtec/bottle", "good", "dent", "000.png"),
        ("btad/01", "BTech_Dataset_transformed/01", "ok", "ko", "000.bmp"),
        ("ball_screw", "industrial/ball_screw", "good", "pitting", "000.png"),
    ],
)
def test_mvtec_like_folders(tmp_path, name, folder, good, bad, mask):
    base = tmp_path / folder
    for at in range(5):
        draw(base / "train" / good / f"{at:03}.png", at)
    for at in range(2):
        draw(base / "test" / good / f"{at:03}.png", at)
        draw(base / "test" / bad / f"{at:03}.png", at)
    draw(base / "ground_truth" / bad / mask, spot=True)
    (base / "test" / bad / "notes.txt").write_text("not an image")
    assert layouts.find(tmp_path) == [name]
    split = layouts.load(name, tmp_path)
    assert (len(split.train), split.train.labels.sum()) == (5, 0)
    assert kinds(split.test) == {None: 2, bad: 2}
    assert split.has_masks
    at = [entry.path.parent.name for entry in split.test.entries].index(bad)
    assert split.test.mask(at).sum() == 1
    assert split.test.mask(at + 1) is None
    assert not split.test.mask([e.label for e in split.test.entries].index(0)).any()
    assert split.test.references[at].item == f"test/{bad}/000.png"


def test_visa_follows_its_table(tmp_path):
    base = tmp_path / "visa"
    lines = ["object,split,label,image,mask"]
    for at, (part, label) in enumerate([("train", "normal")] * 4 + [("test", "normal"), ("test", "anomaly")]):
        image = f"candle/Data/Images/{at}.JPG"
        draw(base / image, at)
        mask = f"candle/Data/Masks/{at}.png" if label == "anomaly" else ""
        if mask:
            draw(base / mask, spot=True)
        lines.append(f"candle,{part},{label},{image},{mask}")
    (base / "split_csv").mkdir()
    (base / "split_csv" / "1cls.csv").write_text("\n".join(lines))
    assert layouts.find(tmp_path) == ["visa/candle"]
    split = layouts.load("visa/candle", tmp_path)
    assert len(split.train) == 4
    assert split.test.labels.tolist() == [0, 1]
    assert split.test.mask(1).sum() == 1
    (base / "split_csv" / "1cls.csv").write_text("object,image\ncandle,x.png")
    with pytest.raises(BadSource, match="lacks the columns"):
        layouts.find(tmp_path)


def test_places_of_the_ball_screw_are_groups():
    assert group_of("01_200828110014_277500_315_crop_2") == group_of("01_200905041126_277500_315_crop_1")
    assert group_of("01_200828110014_277500_315_crop_2") != group_of("01_200828110014_277500_270_crop_2")
    assert group_of("KGT1-S-060-A02_crop_0") == "screw-KGT1-S-060-A02"


def test_exposures_of_one_magnetic_tile_are_a_group():
    stems = [f"exp{e}_num_{start + 20 * e}" for start in (1000, 2000) for e in range(1, 7)]
    groups = tiles(stems)
    assert groups == ["tile-1020"] * 6 + ["tile-2020"] * 6
    assert tiles(stems[::-1]) == groups[::-1]
    # a long pause in the middle of one tile: the exposure goes on where it stopped
    assert len(set(tiles(["exp1_num_10", "exp2_num_30", "exp3_num_190", "exp1_num_400"]))) == 2


def test_magnetic_tiles_keep_a_tile_on_one_side(tmp_path):
    base = tmp_path / "magnetic_tile"
    for tile in range(20):
        for exposure in range(1, 7):
            # tile 3 is broken in its last exposure's crop
            kind = "MT_Break" if tile == 3 and exposure == 6 else "MT_Free"
            stem = base / kind / "Imgs" / f"exp{exposure}_num_{1000 * tile + 20 * exposure}"
            draw(stem.with_suffix(".jpg"), tile)
            draw(stem.with_suffix(".png"), spot=kind != "MT_Free")
    for at, spot in ((1, True), (2, False)):
        draw(base / "MT_Uneven" / "Imgs" / f"exp{at}_num_{90000 + at}.jpg")
        draw(base / "MT_Uneven" / "Imgs" / f"exp{at}_num_{90000 + at}.png", spot=spot)
    assert layouts.find(tmp_path) == ["magnetic_tile", "magnetic_tile/by_image"]
    split = layouts.load("magnetic_tile", tmp_path, seed=1)
    groups = {entry.group for entry in split.train.entries}
    assert not groups & {entry.group for entry in split.test.entries}
    assert kinds(split.test) == {None: 23, "break": 1, "uneven": 2}
    assert len(split.train) == 96
    masks = [split.test.mask(at) for at, entry in enumerate(split.test.entries) if entry.kind == "uneven"]
    assert masks[0].sum() == 1
    assert masks[1] is None
    other = layouts.load("magnetic_tile", tmp_path, seed=2)
    assert set(other.train.paths) != set(split.train.paths)
    single = layouts.load("magnetic_tile/by_image", tmp_path, seed=1)
    assert {e.group for e in single.train.entries} & {e.group for e in single.test.entries}


def test_deep_pcb_reads_lists_and_boxes(tmp_path):
    base = tmp_path / "deep_pcb" / "PCBData"
    for listing, group, numbers in (("trainval.txt", "group1", range(4)), ("test.txt", "group2", range(2))):
        lines = []
        for at in numbers:
            draw(base / group / "1" / f"{at}_temp.jpg", at)
            draw(base / group / "1" / f"{at}_test.jpg", at)
            (base / group / "1_not").mkdir(exist_ok=True)
            (base / group / "1_not" / f"{at}.txt").write_text("1 2 4 6 1\n0 0 1 1 4\n")
            lines.append(f"{group}/1/{at}.jpg {group}/1_not/{at}.txt")
        (base / listing).write_text("\n".join(lines) + "\n")
    split = layouts.load("deep_pcb", tmp_path)
    assert (len(split.train), split.validation.labels.sum()) == (4, 4)
    assert kinds(split.test) == {None: 2, "open+spur": 2}
    assert {entry.group for entry in split.test.entries} == {"group2"}
    assert split.test.mask(2).sum() == 3 * 4 + 1
    (base / "group2" / "1_not" / "0.txt").write_text("1 2 three 4 5")
    with pytest.raises(BadSource, match="is not a box"):
        layouts.load("deep_pcb", tmp_path)


def test_cookies_take_masks_by_the_manifests_colour(tmp_path):
    base = tmp_path / "cookies" / "dataset-files"
    colours = {"internal-color-map": {"0": {"class-name": "cracked", "hex-color": "#23A436"}}}
    rows = [
        {
            "source-ref": "training-images/anomaly-1.jpg",
            "anomaly-label": 1,
            "anomaly-mask-ref": "mask-images/anomaly-1.png",
            "anomaly-mask-ref-metadata": colours,
        }
    ]
    draw(base / "training-images" / "anomaly-1.jpg")
    marked = np.ones((8, 8), np.uint8)
    marked[5, 5] = 0
    mask = Image.fromarray(marked, mode="P")
    mask.putpalette([0x23, 0xA4, 0x36, 0, 0, 0])
    (base / "mask-images").mkdir()
    mask.save(base / "mask-images" / "anomaly-1.png")
    for at in range(3):
        draw(base / "training-images" / f"normal-{at}.jpg", at)
        rows.append({"source-ref": f"training-images/normal-{at}.jpg", "anomaly-label": 0})
    (base / "manifests").mkdir()
    (base / "manifests" / "template.manifest").write_text("\n".join(map(json.dumps, rows)))
    draw(tmp_path / "cookies" / "test-images" / "test-anomaly-1.jpg")
    draw(tmp_path / "cookies" / "test-images" / "test-normal-1.jpg")
    split = layouts.load("cookies", tmp_path)
    assert len(split.train) == 3
    assert split.test.labels.tolist() == [1, 0]
    assert not split.has_masks
    at = split.validation.labels.tolist().index(1)
    assert np.argwhere(split.validation.mask(at)).tolist() == [[5, 5]]


def test_brain_slices_that_are_copies_of_test_slices_leave_training_where_asked(tmp_path):
    base = tmp_path / "medical" / "brain_mri"
    for at in range(6):
        draw(base / "Training" / "no_tumor" / f"{at}.png", at)
    draw(base / "Training" / "glioma_tumor" / "a.png", 50)
    draw(base / "Testing" / "no_tumor" / "copy.png", 4)
    draw(base / "Testing" / "glioma_tumor" / "b.png", 51)
    assert layouts.find(tmp_path) == ["brain_mri", "brain_mri/distinct"]
    official = layouts.load("brain_mri", tmp_path)
    assert (len(official.train), kinds(official.test)) == (6, {None: 1, "glioma": 1})
    assert kinds(official.validation)["glioma"] == 1
    distinct = layouts.load("brain_mri/distinct", tmp_path)
    assert sorted(path.stem for path in distinct.train.paths) == ["0", "1", "2", "3", "5"]


def test_breast_views_that_are_copies_stay_together(tmp_path):
    base = tmp_path / "breast_ultrasound"
    for at in range(20):
        draw(base / "normal" / f"normal({at}).png", at // 2)
    for kind, seed in (("benign", 100), ("malignant", 9)):
        draw(base / kind / f"{kind}(1).png", seed)
    split = layouts.load("breast_ultrasound", tmp_path)
    assert kinds(split.test) == {None: 6, "benign": 1, "malignant": 1}
    assert not {e.group for e in split.train.entries} & {e.group for e in split.test.entries}
    assert "normal(18).png" in {path.name for path in split.test.paths}


def test_toy_aliens_and_one_class_photographs(tmp_path):
    for at in range(9):
        draw(tmp_path / "toy_aliens" / "normal" / f"{at}.jpg", at)
        draw(tmp_path / "toy_aliens" / "anomaly" / f"{at}.jpg", at)
        for part in ("train", "test"):
            for kind in ("cat", "dog", "ship"):
                draw(tmp_path / "cifar10" / part / kind / f"{at}.jpg", at)
    assert layouts.find(tmp_path) == ["cifar10/cat", "cifar10/dog", "cifar10/ship", "toy_aliens"]
    aliens = layouts.load("toy_aliens", tmp_path)
    assert (len(aliens.train), kinds(aliens.test)) == (6, {None: 3, "anomaly": 9})
    cats = layouts.load("cifar10/cat", tmp_path)
    assert {path.parent.name for path in cats.train.paths} == {"cat"}
    assert kinds(cats.test) == {None: 9, "dog": 9, "ship": 9}
    assert cats.validation.labels.sum() == 1
    assert all("train" in path.parts for path in cats.validation.paths)


def test_an_unknown_set_names_those_that_are_there(tmp_path):
    draw(tmp_path / "toy_aliens" / "normal" / "a.jpg")
    draw(tmp_path / "toy_aliens" / "anomaly" / "a.jpg")
    for name in ("ball_screw", "toy_aliens/red", "nothing"):
        with pytest.raises(BadSource, match=r"there are: toy_aliens"):
            layouts.load(name, tmp_path)
    with pytest.raises(BadSource, match="is not a folder"):
        layouts.find(tmp_path / "absent")


def test_medianomaly_reads_the_forms_of_its_seven_sets(tmp_path):
    base = tmp_path / "MedIAnomaly-Data"
    for name in ("RSNA", "LAG", "VinCXR", "BrainTumor"):
        for at in range(7):
            draw(base / name / "images" / f"{at}.png", at)
        listed = {
            "train": {"0": ["0.png", "1.png", "2.png"]},
            "test": {"0": ["3.png"], "1": ["4.png", "5.png"]},
        }
        (base / name / "data.json").write_text(json.dumps(listed))
    for part, rows in (("Training", ["NV", "NV", "NV", "MEL"]), ("Test", ["NV", "BCC"])):
        lines = ["image,MEL,NV,BCC"]
        for at, kind in enumerate(rows):
            draw(base / "ISIC2018_Task3" / f"ISIC2018_Task3_{part}_Input" / f"{part}{at}.jpg", at)
            lines.append(f"{part}{at}," + ",".join(f"{float(kind == one)}" for one in ("MEL", "NV", "BCC")))
        name = f"ISIC2018_Task3_{part}_GroundTruth"
        (base / "ISIC2018_Task3" / name).mkdir(parents=True)
        (base / "ISIC2018_Task3" / name / f"{name}.csv").write_text("\n".join(lines))
    for at in range(3):
        draw(base / "Camelyon16" / "train" / "good" / f"{at}.png", at)
        draw(base / "BraTS2021" / "train" / f"BraTS2021_{at}_flair_60.png", at)
    for part in ("good", "Ungood"):
        draw(base / "Camelyon16" / "test" / part / "0.png", 1)
    draw(base / "BraTS2021" / "test" / "normal" / "BraTS2021_7_flair_60.png", 1)
    draw(base / "BraTS2021" / "test" / "tumor" / "BraTS2021_8_flair_60.png", 2)
    draw(base / "BraTS2021" / "test" / "annotation" / "BraTS2021_8_seg_60.png", spot=True)
    found = layouts.find(tmp_path)
    assert [name.removeprefix("medianomaly/") for name in found] == [
        *("BraTS2021", "BrainTumor", "Camelyon16", "ISIC2018_Task3", "LAG", "RSNA", "VinCXR"),
    ]
    splits = {name: layouts.load(name, tmp_path) for name in found}
    assert {len(split.train) for split in splits.values()} == {3}
    assert all(split.train.labels.sum() == 0 for split in splits.values())
    assert splits["medianomaly/RSNA"].test.labels.tolist() == [0, 1, 1]
    assert kinds(splits["medianomaly/ISIC2018_Task3"].test) == {None: 1, "BCC": 1}
    assert [name for name, split in splits.items() if split.has_masks] == ["medianomaly/BraTS2021"]
    brain = splits["medianomaly/BraTS2021"].test
    assert [brain.mask(at).sum() for at in range(2)] == [0, 1]
    (base / "RSNA" / "data.json").write_text('{"train": {}}')
    with pytest.raises(BadSource, match=r"data\.json"):
        layouts.load("medianomaly/RSNA", tmp_path)
