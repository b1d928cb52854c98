"""What every image detector does with images of another size, depth or number of channels, and with tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case

import offnominal as off
from offnominal.core.errors import BadItem, BadItems
from offnominal.detector import Detector
from offnominal.metrics import auroc

pytestmark = pytest.mark.card(modality="image")


def _resized(image: Any, height: int, width: int) -> Any:
    rows = np.arange(height) * image.shape[0] // height
    columns = np.arange(width) * image.shape[1] // width
    return image[np.ix_(rows, columns)]


@pytest.mark.parametrize("size", [(64, 64), (31, 90), (200, 150), (1, 1), (3, 500)])
def test_images_of_another_size(case: Case, fitted: Detector, size: tuple[int, int]) -> None:
    image = _resized(case.world.normals(1, name="other")[0], *size)
    assert np.isfinite(fitted.anomaly_score([image])).all()
    if case.card.localises:
        assert fitted.anomaly_map([image])[0].shape == size
    record = next(fitted.detect([image]))
    assert record.error is None
    for region in record.regions:
        x0, y0, x1, y1 = region.where
        assert 0 <= x0 < x1 <= size[1]
        assert 0 <= y0 < y1 <= size[0]


def test_sizes_may_mix_in_training_and_in_a_batch(case: Case) -> None:
    mixed = [
        _resized(image, 64 + 16 * (n % 3), 64 + 8 * (n % 2)) for n, image in enumerate(case.world.normals(10))
    ]
    detector = case.make().fit(mixed)
    alone = [float(detector.anomaly_score([image])[0]) for image in mixed]
    np.testing.assert_allclose(detector.anomaly_score(mixed), alone, rtol=1e-5)


def test_grey_and_colour_score_on_each_other(case: Case) -> None:
    colour, grey = case.world.normals(6), case.world.normals(6, channels=1)
    flat = [image[..., 0] for image in grey]
    for train, test in ((colour, grey), (grey, colour), (flat, grey), ([*colour, *grey], flat)):
        detector = case.make().fit(train)
        assert np.isfinite(detector.anomaly_score(test)).all()
    one, two = case.make().fit(grey), case.make().fit(flat)
    np.testing.assert_allclose(one.anomaly_score(flat), two.anomaly_score(grey), rtol=1e-5)


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_other_channels_are_refused_by_name(case: Case, fitted: Detector, channels: int) -> None:
    odd = case.world.normals(1, channels=channels)[0]
    good = case.world.normals(2, name="other")
    with pytest.raises(BadItems, match=f"{channels} channel"):
        fitted.anomaly_score([good[0], odd])
    first, second, third = fitted.detect([good[0], odd, good[1]])
    assert first.error is None
    assert third.error is None
    assert second.error is not None
    assert "channel" in second.error
    if case.card.streams:
        with pytest.raises(BadItems, match="channel"):
            fitted.partial_fit([good[0], odd])
        fitted.partial_fit(case.world.source([good[0], odd], on_bad="skip"))


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_model_of_other_channels(case: Case, channels: int, tmp_path: Path) -> None:
    detector = case.make().fit(case.world.normals(10, channels=channels))
    normal = case.world.normals(10, name="other", channels=channels)
    odd = [case.world.picture("defect", n, defect=True, channels=channels)[0] for n in range(10)]
    scores = detector.anomaly_score([*normal, *odd])
    assert auroc([0] * 10 + [1] * 10, scores) > 0.9
    if channels > 3:
        with pytest.raises(BadItems, match="3 channel"):
            detector.anomaly_score(case.world.normals(1))
    detector.save(tmp_path / "model")
    np.testing.assert_allclose(off.load(tmp_path / "model").anomaly_score([*normal, *odd]), scores, rtol=1e-5)


DEPTHS = {
    "uint16": lambda image: image.astype(np.uint16) * 257,
    "twelve bits": lambda image: image.astype(np.uint16) * 16,
    "float 0 to 1": lambda image: (image / 255).astype(np.float32),
    "float about 0": lambda image: (image.astype(np.float32) - 128) * 3e4,
    "float64": lambda image: image / 255,
}


@pytest.mark.parametrize("depth", DEPTHS)
def test_model_of_another_depth(case: Case, depth: str, tmp_path: Path) -> None:
    deep = DEPTHS[depth]
    detector = case.make().fit([deep(image) for image in case.world.normals(10)])
    test = [deep(image) for image in case.world.normals(10, name="other") + case.world.defects(10)[0]]
    scores = detector.anomaly_score(test)
    assert auroc([0] * 10 + [1] * 10, scores) > 0.9
    alone = [float(detector.anomaly_score([image])[0]) for image in test[:3]]
    np.testing.assert_allclose(alone, scores[:3], rtol=1e-5)
    detector.save(tmp_path / "model")
    np.testing.assert_allclose(off.load(tmp_path / "model").anomaly_score(test), scores, rtol=1e-5)


def test_sixteen_bits_keep_what_eight_would_lose(case: Case) -> None:
    """In eight bits the whole picture would be one or two grey levels."""

    def faint(image: Any) -> Any:
        return (image.astype(np.uint16) + 400).astype(np.uint16)

    detector = case.make().fit([faint(image) for image in case.world.normals(10)])
    assert detector.pixel_high_ < 1024  # type: ignore[attr-defined]
    scores = detector.anomaly_score(
        [faint(image) for image in case.world.normals(8, name="other") + case.world.defects(8)[0]]
    )
    assert auroc([0] * 8 + [1] * 8, scores) > 0.9


def test_another_depth_than_the_model_knows_is_refused(case: Case, fitted: Detector) -> None:
    deep = DEPTHS["uint16"](case.world.normals(1)[0])
    with pytest.raises(BadItems, match="uint16"):
        fitted.anomaly_score([deep])
    with pytest.raises(BadItems, match="uint8"):
        case.make().fit([deep, deep[::-1]]).anomaly_score(case.world.normals(1))


@pytest.mark.card(streams=True)
def test_models_of_different_depth_do_not_merge(case: Case, fitted: Detector) -> None:
    deep = case.make().fit([DEPTHS["uint16"](image) for image in case.world.normals(4)])
    with pytest.raises(ValueError, match="pixel"):
        fitted.merge(deep)
    twelve = case.make().fit([DEPTHS["twelve bits"](image) for image in case.world.normals(4)])
    with pytest.raises(ValueError, match="pixel"):
        deep.merge(twelve)


# -------------------------------------------------------------------------------- tiles


def _board(case: Case, number: int, *, defect: bool = False) -> tuple[Any, Any]:
    """A board of 2 by 3 pictures, one of which may have a defect; and its mask."""
    rows, masks = [], []
    for row in range(2):
        parts = [
            case.world.picture("board", 100 * number + 10 * row + column, defect=False) for column in range(3)
        ]
        if defect and row == number % 2:
            parts[number % 3] = case.world.picture("board", number, defect=True)
        rows.append(np.concatenate([image for image, _ in parts], axis=1))
        masks.append(np.concatenate([mask for _, mask in parts], axis=1))
    return np.concatenate(rows), np.concatenate(masks)


def test_large_images_in_tiles(case: Case) -> None:
    detector = case.make(tile=64).fit([_board(case, n)[0] for n in range(8)])
    normal = [_board(case, 20 + n)[0] for n in range(6)]
    odd, masks = zip(*[_board(case, n, defect=True) for n in range(6)], strict=True)
    scores = detector.anomaly_score([*normal, *odd])
    if case.card.name not in ("padim", "pixel_statistics"):  # those expect parts that lie the same way
        assert auroc([0] * 6 + [1] * 6, scores) > 0.9
    alone = [float(detector.anomaly_score([image])[0]) for image in odd]
    np.testing.assert_allclose(alone, scores[6:], rtol=1e-5)
    if case.card.localises:
        for place, mask in zip(detector.anomaly_map(odd), masks, strict=True):
            assert place.shape == mask.shape == (128, 192)
            assert place.dtype == np.float32


@pytest.mark.card(localises=True)
def test_map_of_tiles_has_no_seams(case: Case) -> None:
    """A whole image of one content gets a map of one level: seams would show as steps between tiles."""
    train = [np.full((64, 64, 3), level, np.uint8) for level in range(100, 130, 3)]
    detector = case.make(tile=64).fit(train)
    (place,) = detector.anomaly_map([np.full((150, 170, 3), 200, np.uint8)])
    tile = detector.anomaly_map([np.full((64, 64, 3), 200, np.uint8)])[0]
    step = max(np.abs(np.diff(place, axis=axis)).max() for axis in (0, 1))
    inside = max(np.abs(np.diff(tile, axis=axis)).max() for axis in (0, 1))
    assert step <= 1.5 * inside + 0.02 * np.abs(tile).max()


def test_small_images_are_one_tile(case: Case) -> None:
    items, test = case.world.normals(6), case.world.normals(3, name="other")
    tiled, whole = case.make(tile=64).fit(items), case.make().fit(items)
    np.testing.assert_allclose(tiled.anomaly_score(test), whole.anomaly_score(test), rtol=1e-5)


def test_worst_tile_is_the_score(case: Case) -> None:
    detector = case.make(tile=64).fit([_board(case, n)[0] for n in range(4)])
    detector.tile_overlap = 0.0  # type: ignore[attr-defined]
    board, _ = _board(case, 3, defect=True)
    tiles = [board[y : y + 64, x : x + 64] for y in (0, 64) for x in (0, 64, 128)]
    score = detector.anomaly_score([board])[0]
    assert score == pytest.approx(detector.anomaly_score(tiles).max(), rel=1e-5)


# -------------------------------------------------------------------------------- files


def test_files_and_arrays_score_the_same(case: Case, fitted: Detector, tmp_path: Path) -> None:
    from PIL import Image

    items = case.world.normals(3, name="other")
    for number, item in enumerate(items):
        Image.fromarray(item).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"not an image")
    records = list(fitted.detect(tmp_path))
    assert [record.item for record in records] == ["0.png", "1.png", "2.png", "3.png"]
    np.testing.assert_allclose(
        [record.score for record in records[:3]],
        fitted.anomaly_score(items),
        rtol=1e-5,  # type: ignore[misc]
    )
    assert records[3].error
    with pytest.raises(BadItems) as caught:
        fitted.anomaly_score(tmp_path)
    assert isinstance(caught.value.items[0], BadItem)
    assert caught.value.items[0].item == "3.png"
