"""Parts of a benchmark split: no group is cut, masks have the image's size, copies are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from offnominal.bench.layouts import Boxes, Entry, LabelledImages, NoAnomaly, Picture
from offnominal.bench.layouts.alike import copies
from offnominal.bench.layouts.split import assemble, take_groups
from offnominal.core.errors import BadItem, BadSource
from offnominal.core.source import Source


def picture(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.one_of(st.none(), st.integers(0, 6)), min_size=1, max_size=60),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_groups_are_never_cut_and_nothing_is_lost(groups, share, seed):
    entries = [Entry(Path(f"{at}.png"), group=None if g is None else str(g)) for at, g in enumerate(groups)]
    rest, taken = take_groups(entries, share, seed)
    assert sorted(entry.path for entry in (*rest, *taken)) == sorted(entry.path for entry in entries)
    assert not {e.group for e in rest if e.group} & {e.group for e in taken if e.group}
    largest = max([groups.count(g) for g in groups if g is not None] or [1])
    assert abs(len(taken) - share * len(entries)) <= largest
    assert (rest, taken) == take_groups(entries, share, seed)


def test_another_seed_takes_others():
    entries = [Entry(Path(f"{at}.png")) for at in range(50)]
    assert take_groups(entries, 0.5, 0) != take_groups(entries, 0.5, 1)


def test_validation_is_held_out_of_fitting_and_both_make_up_train(tmp_path):
    train = [Entry(tmp_path / f"{at}.png", group=str(at // 3)) for at in range(60)]
    test = [Entry(tmp_path / "t.png"), Entry(tmp_path / "u.png", 1)]
    known = [Entry(tmp_path / "bad.png", 1)]
    split = assemble(
        "x", tmp_path, train, test, seed=0, origin="", licence="", protocol="", training_anomalies=known
    )
    held = [entry.path for entry in split.validation.entries if entry.label == 0]
    assert sorted(split.fitting.paths + held) == sorted(split.train.paths)
    assert not {e.group for e in split.fitting.entries} & {e.group for e in split.validation.entries}
    assert len(held) == 12
    assert split.validation.labels.sum() == 1


def test_a_smaller_split_keeps_the_share_of_anomalies(tmp_path):
    train = [Entry(tmp_path / f"{at}.png") for at in range(100)]
    test = [Entry(tmp_path / f"t{at}.png", int(at < 30)) for at in range(120)]
    split = assemble("x", tmp_path, train, test, seed=0, origin="", licence="", protocol="")
    small = split.smaller(train=20, test=40)
    assert (len(small.train), len(small.test), small.test.labels.sum()) == (20, 40, 10)
    assert set(small.test.paths) <= set(split.test.paths)
    assert len(set(small.test.paths)) == 40


def test_an_incomplete_set_is_refused_by_name(tmp_path):
    with pytest.raises(BadSource, match=r"parts: no test images"):
        assemble("parts", tmp_path, [Entry(tmp_path / "a")], [], seed=0, origin="", licence="", protocol="")


def test_a_source_tells_labels_masks_and_names(tmp_path):
    image = picture(tmp_path / "a" / "one.png", np.full((4, 6), 7, np.uint8))
    other = picture(tmp_path / "a" / "two.png", np.full((4, 6), 9, np.uint8))
    boxes = Boxes(((1, 0, 3, 2),))
    source = LabelledImages(
        "set:test", tmp_path, [Entry(image, mask=NoAnomaly()), Entry(other, 1, "dent", "g", "p", boxes)]
    )
    assert isinstance(source, Source)
    reference = source.references[1]
    assert (reference.item, reference.label, reference.kind) == ("a/two.png", 1, "dent")
    assert (reference.group, reference.product, reference.source) == ("g", "p", "set:test")
    assert source.mask(0).shape == (4, 6)
    assert not source.mask(0).any()
    expected = np.zeros((4, 6), bool)
    expected[0:2, 1:3] = True
    np.testing.assert_array_equal(source.mask(1), expected)
    assert source.subset([1]).references == (reference,)
    assert LabelledImages("x", tmp_path, [Entry(image)]).mask(0) is None


def test_images_are_read_under_the_layouts_names(tmp_path):
    image = picture(tmp_path / "a" / "one.png", np.full((4, 6, 3), 7, np.uint8))
    (tmp_path / "a" / "bad.png").write_bytes(b"nothing")
    source = LabelledImages("x", tmp_path, [Entry(image, 1), Entry(tmp_path / "a" / "bad.png")])
    item = source.read(0)
    assert item.reference == source.references[0]
    assert item.value.shape == (4, 6, 3)
    assert (item.value == 7).all()
    with pytest.raises(BadItem, match=r"^a/bad\.png: "):
        source.read(1)


def test_masks_are_told_by_colour_or_by_what_is_not_zero(tmp_path):
    image = picture(tmp_path / "i.png", np.zeros((3, 3), np.uint8))
    drawn = np.zeros((3, 3), np.uint8)
    drawn[1, 2] = 1
    plain = Picture(picture(tmp_path / "m.png", drawn))
    np.testing.assert_array_equal(plain.read(image), drawn.astype(bool))
    coloured = Image.fromarray(1 - drawn, mode="P")
    coloured.putpalette([35, 164, 54, 0, 0, 0])
    coloured.save(tmp_path / "p.png")
    by_colour = Picture(tmp_path / "p.png", (35, 164, 54))
    np.testing.assert_array_equal(by_colour.read(image), drawn.astype(bool))


def test_a_mask_of_another_size_is_refused(tmp_path):
    image = picture(tmp_path / "i.png", np.zeros((3, 3), np.uint8))
    mask = Picture(picture(tmp_path / "m.png", np.zeros((3, 4), np.uint8)))
    with pytest.raises(BadItem, match=r"m\.png: mask is \(3, 4\)"):
        mask.read(image)


def test_boxes_beyond_the_image_are_cut(tmp_path):
    image = picture(tmp_path / "i.png", np.zeros((3, 3), np.uint8))
    assert Boxes(((-2, -2, 1, 9),)).read(image).sum() == 3


def test_copies_are_found_through_encoding_size_and_brightness(tmp_path):
    rng = np.random.default_rng(0)
    one, two = (rng.integers(0, 200, (8, 8)).astype(np.uint8).repeat(16, 0).repeat(16, 1) for _ in range(2))
    paths = [picture(tmp_path / "one.png", one), picture(tmp_path / "two.png", two)]
    Image.fromarray(one).save(tmp_path / "again.jpg", quality=60)
    paths += [tmp_path / "again.jpg", picture(tmp_path / "small.png", one[::2, ::2] + 30)]
    assert copies(paths) == [0, 1, 0, 0]
