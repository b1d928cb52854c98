"""Layouts of the real data sets: counts, whole groups, masks that fit their images."""

from __future__ import annotations

import pytest

from offnominal.bench import layouts

# train, test normals, test anomalies, anomalies with a mask
COUNTS = {
    "ball_screw": (426, 284, 394, 394),
    "brain_mri": (334, 105, 289, 0),
    "brain_mri/distinct": (247, 105, 289, 0),
    "breast_ultrasound": (93, 40, 647, 0),
    "cifar10/bird": (500, 200, 1800, 0),
    "cookies": (31, 14, 8, 0),
    "deep_pcb": (50, 40, 40, 40),
    "magnetic_tile": (762, 190, 392, 388),
    "magnetic_tile/by_image": (762, 190, 392, 388),
    "toy_aliens": (39, 19, 60, 0),
}


@pytest.mark.data
@pytest.mark.parametrize("name", sorted(COUNTS))
def test_counts_and_parts(data_root, name):
    if name not in layouts.find(data_root):
        pytest.skip(f"{name} is not under the data folder")
    split = layouts.load(name, data_root, seed=0)
    train, good, bad, masked = COUNTS[name]
    labels = split.test.labels
    assert (len(split.train), int((labels == 0).sum()), int((labels == 1).sum())) == (train, good, bad)
    assert sum(entry.label == 1 and entry.mask is not None for entry in split.test.entries) == masked
    assert split.train.labels.sum() == 0
    used = set(split.train.paths) | set(split.validation.paths)
    assert not used & set(split.test.paths)
    assert all(path.is_file() for path in (*split.train.paths, *split.test.paths))
    assert len({reference.item for reference in split.test.references}) == len(split.test)


@pytest.mark.data
@pytest.mark.parametrize("name", ["brain_mri/distinct", "breast_ultrasound", "magnetic_tile"])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_group_is_on_both_sides(data_root, name, seed):
    if name not in layouts.find(data_root):
        pytest.skip(f"{name} is not under the data folder")
    split = layouts.load(name, data_root, seed=seed)
    assert not {e.group for e in split.train.entries} & {e.group for e in split.test.entries}
    held = {e.group for e in split.validation.entries if e.label == 0}
    assert not held & {e.group for e in split.fitting.entries}


@pytest.mark.data
@pytest.mark.parametrize("name", ["ball_screw", "deep_pcb", "magnetic_tile", "cookies"])
def test_masks_mark_some_pixels_and_not_most(data_root, name):
    if name not in layouts.find(data_root):
        pytest.skip(f"{name} is not under the data folder")
    split = layouts.load(name, data_root, seed=0)
    source = split.validation if name == "cookies" else split.test
    shares = [
        mask.mean()
        for at, entry in enumerate(source.entries)
        if entry.label == 1 and (mask := source.mask(at)) is not None
    ]
    assert min(shares) > 0
    assert sum(shares) / len(shares) < 0.25


@pytest.mark.data
def test_the_official_brain_split_is_spoilt_by_copies(data_root):
    if "brain_mri" not in layouts.find(data_root):
        pytest.skip("brain_mri is not under the data folder")
    split = layouts.load("brain_mri", data_root)
    known = {entry.group for entry in split.train.entries}
    assert sum(entry.group in known for entry in split.test.entries if entry.label == 0) == 92


@pytest.mark.data
def test_most_magnetic_tiles_have_one_photograph_an_exposure(data_root):
    if "magnetic_tile" not in layouts.find(data_root):
        pytest.skip("magnetic_tile is not under the data folder")
    split = layouts.load("magnetic_tile", data_root)
    members: dict[str, list[str]] = {}
    for entry in (*split.train.entries, *split.test.entries):
        members.setdefault(entry.group, []).append(entry.path.stem[3])
    whole = [group for group, exposures in members.items() if sorted(exposures) == list("123456")]
    assert sum(len(exposures) for exposures in members.values()) == 1344
    assert len(whole) >= 180
