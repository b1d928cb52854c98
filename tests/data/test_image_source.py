"""What a source can be, what its items are called, and what is known of them without opening a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from offnominal.core.errors import BadItem, BadSource
from offnominal.core.source import Source
from offnominal.data import images, open_source

Folder = Callable[..., Path]


def names(source: Source) -> list[str]:
    return [reference.item for reference in source.references]


def test_a_folder_of_any_layout_in_natural_order_without_hidden_and_other_files(image_folder: Folder) -> None:
    root = image_folder("img10.png", "img2.png", "IMG1.PNG", "b/c/x.png", "b/2.png", ".git/y.png", "b/.z.png")
    for other in ("README.md", "Thumbs.db", "labels.csv", "b/x.json"):
        (root / other).write_text("x")
    source = images(root)
    assert isinstance(source, Source)
    assert names(source) == ["b/2.png", "b/c/x.png", "IMG1.PNG", "img2.png", "img10.png"]
    assert {reference.source for reference in source.references} == {str(root)}
    assert {reference.label for reference in source.references} == {-1}
    assert source.path(0) == str(root / "b" / "2.png")


def test_references_are_known_without_opening_a_file(
    image_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = image_folder("a.png", "b.png")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(Image, "open", refuse)
    assert names(images(root)) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("*.png", ["a.png"]),
        ("*/*.png", ["b/x.png", "c/y.png"]),
        ("**/*.png", ["a.png", "b/d/z.png", "b/x.png", "c/y.png"]),
        ("b/**", ["d/z.png", "x.png"]),
        ("[bc]", ["b/d/z.png", "b/x.png", "c/y.png"]),
        ("**/z.*", ["b/d/z.png"]),
        ("?/x.png", ["b/x.png"]),
    ],
)
def test_globs(image_folder: Folder, pattern: str, wanted: list[str]) -> None:
    root = image_folder("a.png", "b/x.png", "b/d/z.png", "c/y.png", "c/.y.png")
    assert names(images(f"{root}/{pattern}")) == wanted


def test_relative_paths_and_globs(image_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(image_folder("a.png", "b/x.png"))
    assert names(images("**/*.png")) == names(images(".")) == ["a.png", "b/x.png"]
    assert names(images("b/x.png")) == ["x.png"]
    assert names(images(["b/x.png", "a.png"])) == ["b/x.png", "a.png"]


def test_lists_keep_their_order_take_folders_whole_and_have_unique_names(image_folder: Folder) -> None:
    root = image_folder("a.png", "b/x.png", "b/y.png")
    source = images([root / "b", root / "a.png", root / "a.png", str(root / "gone.png")])
    assert names(source) == ["b/x.png", "b/y.png", "a.png", "a.png#2", "gone.png"]
    with pytest.raises(BadItem, match=r"gone\.png"):
        source.read(4)
    assert source.read(2).reference.item == "a.png"


def test_a_file_of_any_suffix_is_read_when_it_is_named(image_folder: Folder) -> None:
    root = image_folder("a.png")
    (root / "a.png").rename(root / "scan.000")
    assert images(root / "scan.000").read(0).value.shape == (24, 32, 3)


def test_a_folder_reached_through_links_is_read_where_it_is_named(image_folder: Folder) -> None:
    root, other = image_folder("a.png"), image_folder("x.png", into="other")
    os.symlink(other, root / "link", target_is_directory=True)
    os.symlink(other / "x.png", root / "file.png")
    assert names(images(root)) == ["a.png", "file.png", "link/x.png"]


@pytest.mark.parametrize(
    ("shape", "count", "each"),
    [
        ((5, 6), 1, (5, 6, 1)),
        ((5, 6, 3), 1, (5, 6, 3)),
        ((5, 6, 7), 5, (6, 7, 1)),
        ((4, 5, 6, 2), 4, (5, 6, 2)),
    ],
)
def test_arrays(shape: tuple[int, ...], count: int, each: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    source = images(array)
    assert len(source) == count
    assert source.read(0).value.shape == each
    assert [reference.index for reference in source.references] == list(range(count))
    assert names(source) == [str(i) for i in range(count)]
    np.testing.assert_array_equal(source.read(count - 1).value.ravel(), array.reshape(count, -1)[-1])


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [
        ("bool", "uint8"),
        ("uint8", "uint8"),
        ("uint16", "uint16"),
        ("float64", "float32"),
        ("int32", "float32"),
    ],
)
def test_types_of_arrays(dtype: str, wanted: str) -> None:
    value = images([np.eye(3).astype(dtype), np.zeros((9, 2))]).read(0).value
    assert value.dtype == wanted
    assert value.max() == (255 if dtype == "bool" else 1)


def test_a_subset_keeps_order_masks_and_policy(image_folder: Folder) -> None:
    source = images(image_folder("a.png", "b.png", "c.png"), on_bad="skip", labels=[0, 1, 0])
    part = source.subset(np.array([2, 0]))
    assert names(part) == ["c.png", "a.png"]
    assert part.on_bad == "skip"
    np.testing.assert_array_equal(part.read(1).value, source.read(0).value)
    assert [reference.label for reference in source.subset([1]).references] == [1]


def test_labels_groups_and_products_by_sequence_mapping_and_function(image_folder: Folder) -> None:
    root = image_folder("good/a.png", "bad/b.png")
    source = images(
        root,
        labels=lambda item: int(item.startswith("bad")),
        groups={"bad/b.png": "part 7"},
        products=["screw", None],
    )
    first, second = source.references
    assert (first.item, first.label, first.group, first.product) == ("bad/b.png", 1, "part 7", "screw")
    assert (second.item, second.label, second.group, second.product) == ("good/a.png", 0, None, None)
    with pytest.raises(ValueError, match="3 labels for 2 images"):
        images(root, labels=[0, 1, 0])
    with pytest.raises(ValueError, match="labels are 0 normal"):
        images(root, labels=[0, 2])
    with pytest.raises(ValueError, match=r"'x\.png', which is not an item"):
        images(root, groups={"x.png": "g"})


def test_open_source_returns_sources_and_says_what_it_reads(image_folder: Folder) -> None:
    source = images(image_folder("a.png"))
    assert open_source(source, "image") is source
    assert names(open_source(image_folder("a.png"), "image")) == ["a.png"]
    with pytest.raises(BadSource, match="no reader for modality 'series'; there is: image"):
        open_source([1.0], "series")
    with pytest.raises(BadSource, match="of modality image, table is needed"):
        open_source(source, "table")


MASK = np.zeros((24, 32), dtype=np.uint8)
MASK[3:9, 4:8] = 1


def test_masks_pair_by_stem_and_folder(image_folder: Folder) -> None:
    root = image_folder("good/000.png", "broken/000.png", "broken/001.png")
    truth = root / "truth" / "broken"
    truth.mkdir(parents=True)
    Image.fromarray(MASK * 255).save(truth / "000_mask.png")
    source = images(root, masks=root / "truth")
    assert names(source) == ["broken/000.png", "broken/001.png", "good/000.png"]
    np.testing.assert_array_equal(source.mask(0), MASK == 1)
    assert source.mask(1) is None
    assert source.mask(2) is None


def test_a_mask_that_fits_two_images_is_refused(image_folder: Folder) -> None:
    root, truth = image_folder("good/000.png", "broken/000.png"), image_folder("000.png", into="truth")
    with pytest.raises(BadSource, match=r"fits both broken/000\.png and good/000\.png"):
        images(root, masks=truth)
    with pytest.raises(BadSource, match="masks cannot be read"):
        images(root, masks=root / "nowhere")


def test_masks_by_function_sequence_and_array(image_folder: Folder, tmp_path: Path) -> None:
    root = image_folder("a.png", "b.png")
    Image.fromarray(np.dstack([MASK * 0, MASK, MASK * 0])).save(tmp_path / "m.png")
    by_function = images(root, masks=lambda path: tmp_path / "m.png" if path.endswith("a.png") else None)
    np.testing.assert_array_equal(by_function.mask(0), MASK == 1)
    assert by_function.mask(1) is None
    np.testing.assert_array_equal(images(np.zeros((2, 24, 32, 3)), masks=[None, MASK]).mask(1), MASK == 1)
    (tmp_path / "m.png").write_text("no mask")
    with pytest.raises(BadItem, match=r"a\.png: its mask m\.png is not an image"):
        by_function.mask(0)


def test_lossy_masks_are_cut_at_half(image_folder: Folder, tmp_path: Path) -> None:
    Image.fromarray(MASK * 255).save(tmp_path / "m.jpg", quality=60)
    marked = images(image_folder("a.png"), masks=[tmp_path / "m.jpg"]).mask(0)
    assert (marked != (MASK == 1)).mean() < 0.02


ROWS = [
    {"path": "a.png", "label": "good", "mask": "", "group": "g1", "product": "nut", "kind": "", "level": ""},
    {
        "path": "b/x.png",
        "label": "1",
        "mask": "m.png",
        "group": "",
        "product": "",
        "kind": "crack",
        "level": "0.5",
    },
    {"path": "b/y.png", "label": "", "mask": "", "group": "", "product": "", "kind": "", "level": ""},
]


def manifest_text(form: str) -> str:
    if form == "json":
        return json.dumps(ROWS)
    if form == "items.json":
        return json.dumps({"items": ROWS})
    if form == "jsonl":
        return "\n".join(json.dumps(row) for row in ROWS) + "\n\n"
    mark = {"csv": ",", "semicolon.csv": ";", "tsv": "\t"}[form]
    return "\ufeff" + "\r\n".join(
        mark.join(line) for line in [[*ROWS[0]], *([*row.values()] for row in ROWS)]
    )


@pytest.mark.parametrize("form", ["csv", "semicolon.csv", "tsv", "json", "items.json", "jsonl"])
def test_manifests(image_folder: Folder, form: str) -> None:
    root = image_folder("a.png", "b/x.png", "b/y.png")
    Image.fromarray(MASK).save(root / "m.png")
    (root / f"list.{form}").write_bytes(manifest_text(form).encode())
    source = images(root / f"list.{form}")
    first, second, third = source.references
    assert names(source) == ["a.png", "b/x.png", "b/y.png"]
    assert (first.label, first.group, first.product, first.kind, first.level) == (0, "g1", "nut", None, None)
    assert (second.label, second.group, second.product, second.kind, second.level) == (
        1,
        None,
        None,
        "crack",
        0.5,
    )
    assert third.label == -1
    np.testing.assert_array_equal(source.mask(1), MASK == 1)
    assert source.mask(0) is None
    assert source.read(2).value.shape == (24, 32, 3)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("m.csv", "file,label\na.png,0\n", "needs a column named path, it has file, label"),
        ("m.csv", "path,label\na.png,maybe\n", "line 2: label 'maybe' is not understood"),
        ("m.csv", "path,level\na.png,nan\n", "line 2: level 'nan' is not a finite number"),
        ("m.csv", "path\n\n", "names no image"),
        ("m.csv", "path,label\n,0\n", "line 2: has no path"),
        ("m.csv", "", "needs a column named path, it has none"),
        ("m.csv", 'path\n"' + "x" * 200_000, "not CSV"),
        ("m.json", '{"path": "a.png"}', "is a list of objects"),
        ("m.json", "[1]", "entry 1: an object with a path is needed"),
        ("m.json", "[" * 100_000, "not valid JSON"),
        ("m.jsonl", '{"path": "a.png"}\n{"path"', "not valid JSON"),
        ("m.jsonl", '{"path": "a.png", "label": 3}', "line 1: label 3 is not understood"),
    ],
)
def test_a_bad_manifest_names_the_line(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadSource, match=words):
        images(tmp_path / name)


def test_a_manifest_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"path\n\xff.png\n")
    with pytest.raises(BadSource, match="not text in UTF-8"):
        images(tmp_path / "m.csv")


def test_a_manifest_may_point_elsewhere_and_names_stay_below_one_folder(image_folder: Folder) -> None:
    root, other = image_folder("a.png"), image_folder("x.png", into="other")
    (root / "m.jsonl").write_text(
        json.dumps({"path": "a.png"}) + "\n" + json.dumps({"path": "../other/x.png"})
    )
    assert names(images(root / "m.jsonl")) == ["images/a.png", "other/x.png"]
    assert other.is_dir()


@pytest.mark.data
def test_the_manifest_of_a_labelling_service(data_root: Path) -> None:
    source = images(data_root / "industrial/cookies/dataset-files/manifests/template.manifest")
    assert len(source) == 63
    labels = [reference.label for reference in source.references]
    assert labels.count(1) == 32
    assert labels.count(0) == 31
    for position in (labels.index(1), labels.index(0)):
        image = source.read(position).value
        mask = source.mask(position)
        if labels[position]:
            assert source.references[position].kind == "cracked"
            assert mask.shape == image.shape[:2]
            assert 0 < mask.mean() < 0.5


@pytest.mark.data
def test_masks_beside_the_images(data_root: Path) -> None:
    root = data_root / "industrial/magnetic_tile/MT_Crack/Imgs"
    source = images(root / "*.jpg", masks=lambda path: Path(path).with_suffix(".png"))
    shares = [source.mask(position).mean() for position in range(0, len(source), 10)]
    assert all(0 < share < 0.5 for share in shares)
    assert source.mask(0).shape == source.read(0).value.shape[:2]
