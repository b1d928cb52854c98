"""Splits keep groups whole and spread products; near-duplicates are relative to the set's own spread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offnominal.core.source import Reference
from offnominal.data import images
from offnominal.data.split import folds, holdout, near_duplicate_groups, thumbnail

GROUPS = st.lists(
    st.tuples(st.sampled_from([None, "g1", "g2", "g3"]), st.sampled_from(["nut", "bolt"])), max_size=40
)


def references(drawn: list[tuple[str | None, str]]) -> list[Reference]:
    return [Reference(str(i), "s", group=group, product=product) for i, (group, product) in enumerate(drawn)]


@settings(max_examples=100, deadline=None)
@given(drawn=GROUPS, k=st.integers(1, 7), seed=st.integers(0, 9), clusters=st.integers(0, 6))
def test_folds_are_a_partition_that_keeps_groups(drawn: list, k: int, seed: int, clusters: int) -> None:
    known = references(drawn)
    groups = np.random.default_rng(seed).integers(0, clusters, len(known)) if clusters else None
    parts = folds(known, k, seed, groups=groups)
    together = {
        reference.group or (("cluster", int(groups[i])) if groups is not None else i)
        for i, reference in enumerate(known)
    }
    assert len(parts) == min(k, len(together))
    assert all(len(part) for part in parts)
    assert sorted(np.concatenate([*parts, []]).tolist()) == list(range(len(known)))
    home = {int(position): number for number, part in enumerate(parts) for position in part}
    for i, reference in enumerate(known):
        for j, other in enumerate(known[:i]):
            same = reference.group is not None and reference.group == other.group
            alike = (
                groups is not None
                and reference.group is None
                and other.group is None
                and groups[i] == groups[j]
            )
            if same or alike:
                assert home[i] == home[j]
    again = folds(known, k, seed, groups=groups)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 90), k=st.integers(1, 7), seed=st.integers(0, 99), products=st.integers(1, 4))
def test_folds_of_single_items_are_balanced_within_and_across_products(
    n: int, k: int, seed: int, products: int
) -> None:
    known = [Reference(str(i), "s", product=str(i % products)) for i in range(n)]
    parts = folds(known, k, seed)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    for product in range(min(products, n)):
        counts = [sum(int(i) % products == product for i in part) for part in parts]
        assert max(counts) - min(counts) <= 1


def test_folds_depend_on_the_seed() -> None:
    known = [Reference(str(i), "s") for i in range(50)]
    assert not np.array_equal(folds(known, 5, 0)[0], folds(known, 5, 1)[0])


@settings(max_examples=100, deadline=None)
@given(drawn=GROUPS, fraction=st.floats(0.05, 0.95), seed=st.integers(0, 9))
def test_holdout_is_a_partition_that_keeps_groups(drawn: list, fraction: float, seed: int) -> None:
    known = references(drawn)
    train, held = holdout(known, fraction, seed)
    assert sorted([*train.tolist(), *held.tolist()]) == list(range(len(known)))
    blocks = {reference.group or i for i, reference in enumerate(known)}
    assert (len(held) > 0) == (len(blocks) > 1)
    assert (len(train) > 0) == (len(known) > 0)
    assert not {known[i].group for i in train} & {known[i].group for i in held} - {None}


@settings(max_examples=100, deadline=None)
@given(n=st.integers(10, 200), products=st.integers(1, 20), seed=st.integers(0, 9))
def test_holdout_of_single_items_meets_its_share(n: int, products: int, seed: int) -> None:
    known = [Reference(str(i), "s", product=str(i % products)) for i in range(n)]
    _, held = holdout(known, 0.2, seed)
    assert len(held) == round(0.2 * n)
    for product in range(min(products, n)):
        own = len(range(product, n, products))
        assert abs(sum(int(i) % products == product for i in held) - 0.2 * own) < 1 + 1e-9


def test_wrong_arguments_are_refused() -> None:
    known = [Reference("a", "s")]
    with pytest.raises(ValueError, match="k must be"):
        folds(known, 0, 0)
    with pytest.raises(ValueError, match="fraction"):
        holdout(known, 1.0, 0)
    with pytest.raises(ValueError, match="groups has shape"):
        folds(known, 2, 0, groups=[1, 2])


def parts_that_look_alike(n: int, seed: int, latent: int = 4, noise: float = 0.01) -> np.ndarray:
    """One pattern, varied along a few directions and with a little noise: good parts of one line."""
    random = np.random.default_rng(seed)
    base, ways = random.random((24, 24)), random.normal(size=(latent, 24, 24))
    return (
        base
        + 0.05 * np.tensordot(random.normal(size=(n, latent)), ways, 1)
        + noise * random.normal(size=(n, 24, 24))
    )


@pytest.mark.parametrize("n", [12, 40, 150])
@pytest.mark.parametrize("latent", [2, 4, 12])
def test_good_parts_that_look_alike_are_not_one_group(n: int, latent: int) -> None:
    groups = near_duplicate_groups(parts_that_look_alike(n, 3, latent))
    assert len(np.unique(groups)) > 0.8 * n


@pytest.mark.parametrize("copies", [2, 3, 4])
def test_pictures_taken_again_are_found_even_where_most_have_a_copy(copies: int) -> None:
    once = parts_that_look_alike(40, 5, latent=8)
    random = np.random.default_rng(1)
    again = np.concatenate([once + 0.001 * random.normal(size=once.shape) for _ in range(copies)])
    groups = near_duplicate_groups(again).reshape(copies, 40)
    assert (groups == groups[0]).all(axis=0).mean() > 0.9
    assert len(np.unique(groups)) > 30


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 60), seed=st.integers(0, 50), cap=st.integers(1, 10))
def test_groups_are_numbered_and_never_larger_than_the_cap(n: int, seed: int, cap: int) -> None:
    random = np.random.default_rng(seed)
    pictures = random.integers(0, 2, (n, 2, 2)).astype(np.float32)  # many exact duplicates
    groups = near_duplicate_groups(pictures, largest=cap)
    assert groups.shape == (n,)
    if n:
        sizes = np.bincount(groups)
        assert sizes.min() >= 1
        assert sizes.max() <= cap
        first = [int(np.flatnonzero(groups == number)[0]) for number in range(len(sizes))]
        assert first == sorted(first)


def test_identical_images_leave_enough_groups_to_split() -> None:
    groups = near_duplicate_groups(np.ones((50, 24, 24)))
    assert len(np.unique(groups)) >= 10
    assert len(folds([Reference(str(i), "s") for i in range(50)], 5, 0, groups=groups)) == 5


@pytest.mark.parametrize("shape", [(7, 300, 1), (100, 90, 3), (24, 24, 8)])
def test_thumbnails_have_one_shape(shape: tuple[int, ...], image_folder: Callable[..., Path]) -> None:
    image = np.random.default_rng(0).integers(0, 60000, shape).astype(np.uint16)
    small = thumbnail(image)
    assert small.shape == (24, 24)
    assert small.dtype == np.float32
    assert abs(small.mean() - image.mean()) < 0.05 * image.mean()


@pytest.mark.data
def test_real_parts_keep_apart_and_their_copies_do_not(data_root: Path) -> None:
    source = images(data_root / "industrial/ball_screw/train")
    pictures = np.stack([thumbnail(source.read(i).value) for i in range(200)])
    random = np.random.default_rng(0)
    copies = pictures[:60] + random.normal(size=(60, 24, 24)) * 0.2
    groups = near_duplicate_groups(np.concatenate([pictures, copies]))
    assert np.mean(groups[:60] == groups[200:]) > 0.8
    assert len(np.unique(groups[:200])) > 100
