"""The board auto-encoder: photographs are registered, and missing parts are found on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import offnominal as off  # noqa: E402
from offnominal.core.seeds import generator  # noqa: E402
from offnominal.image.registration import Registration, warp  # noqa: E402
from offnominal.metrics import auroc  # noqa: E402

SIZE = 96
SMALL: dict[str, Any] = {
    "image_size": SIZE,
    "levels": ("3", "6"),
    "width": 16,
    "code": 16,
    "steps": 300,
    "batch": 4,
    "rate": 4e-3,
    "smoothing": 2.0,
}


def board(missing: int | None = None) -> np.ndarray:
    """Parts of several sizes and colours on a green ground, perhaps without one of them."""
    random = generator(5, "board")
    image = np.empty((160, 160, 3))
    image[:] = (40, 110, 60)
    for number in range(14):
        row, column = 24 + 40 * (number // 4), 12 + 38 * (number % 4)
        height, width = random.integers(14, 28, 2)
        colour = random.uniform(20, 240, 3)
        if number != missing:
            image[row : row + height, column : column + width] = colour
            image[row + 4 : row + height - 4, column + 4 : column + 8] = 255 - colour
    return image


def homography(number: int, strength: float = 1.0) -> np.ndarray:
    """A turn, size, shift and slant."""
    random = generator(6, "camera", str(number))
    turn, size = strength * random.uniform(-0.1, 0.1), 1 + strength * random.uniform(-0.08, 0.08)
    matrix = np.eye(3)
    matrix[:2, :2] = size * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix[:2, 2] = strength * random.uniform(-0.12, 0.12, 2)
    matrix[2, :2] = strength * random.uniform(-0.04, 0.04, 2)
    return matrix


def photograph(number: int, *, missing: int | None = None, strength: float = 1.0) -> np.ndarray:
    """The board from somewhere, under some light."""
    random = generator(7, "photograph", str(number))
    seen = warp(board(missing).astype(np.float32), homography(number, strength), (160, 160))
    seen = seen * random.uniform(0.85, 1.1) + random.uniform(-8, 8) + random.normal(0, 3, seen.shape)
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)


def apart(one: np.ndarray, two: np.ndarray) -> float:
    """Largest distance, in pixels of 160, to which two homographies bring the corners of the middle."""
    corners = np.array([[x, y, 1.0] for x in (-0.7, 0.7) for y in (-0.7, 0.7)]).T
    places = [(matrix @ corners)[:2] / (matrix @ corners)[2] for matrix in (one, two)]
    return float(np.abs(places[0] - places[1]).max() * 80)


@pytest.mark.parametrize("missing", [None, 5])
def test_registration_finds_the_view(missing: int | None) -> None:
    registration = Registration(board().mean(axis=2))
    errors = []
    for number in range(8):
        grey = photograph(number, missing=missing).mean(axis=2)
        errors.append(apart(registration.find(grey), np.linalg.inv(homography(number))))
    assert np.median(errors) < 1.0
    assert np.mean(np.array(errors) < 2.5) >= 7 / 8


def test_flat_and_foreign_images_stay_as_they_are() -> None:
    registration = Registration(board().mean(axis=2))
    np.testing.assert_array_equal(registration.find(np.full((40, 50), 90.0)), np.eye(3))
    matrix = registration.find(np.random.default_rng(0).uniform(0, 255, (64, 64)))
    assert np.isfinite(matrix).all()


def test_warp_there_and_back() -> None:
    y, x = np.mgrid[:60, :80]
    image = (np.sin(x / 9) + np.cos(y / 7)).astype(np.float32)
    np.testing.assert_allclose(warp(image, np.eye(3), (60, 80)), image, atol=1e-5)
    matrix = homography(3)
    back = warp(warp(image, matrix, (60, 80)), np.linalg.inv(matrix), (60, 80))
    np.testing.assert_allclose(back[15:45, 20:60], image[15:45, 20:60], atol=0.05)


@pytest.mark.slow
def test_missing_parts_are_found_on_photographs_from_elsewhere() -> None:
    """And their map lies where the part is missing on the photograph, not on the reference."""
    detector = off.make("board_ae", **SMALL).fit([photograph(n) for n in range(24)])
    fresh = [photograph(100 + n) for n in range(12)]
    damaged = [photograph(200 + n, missing=n) for n in range(12)]
    scores = detector.anomaly_score([*fresh, *damaged])
    assert auroc([0] * 12 + [1] * 12, scores) > 0.9
    hits = 0
    for number, found in enumerate(detector.anomaly_map(damaged)):
        change = np.abs(board(number) - board()).max(axis=2)
        mask = warp(change.astype(np.float32), homography(200 + number), (160, 160)) > 20
        peak = np.unravel_index(found.argmax(), found.shape)
        near = np.hypot(*(np.argwhere(mask) - peak).T).min()
        hits += near < 8
    assert hits >= 9


@pytest.mark.slow
def test_registration_is_what_makes_it_work_there() -> None:
    train = [photograph(n) for n in range(24)]
    test = [photograph(100 + n) for n in range(12)] + [photograph(200 + n, missing=n) for n in range(12)]
    found = [
        auroc([0] * 12 + [1] * 12, off.make("board_ae", register=r, **SMALL).fit(train).anomaly_score(test))
        for r in (True, False)
    ]
    assert found[0] > found[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "without", [{"content": 0.0}, {"pixels": 0.0}, {"compare": "pixels"}, {"noise": 0.0}], ids=str
)
def test_each_part_can_be_left_out_and_counts(without: dict[str, Any]) -> None:
    still = [photograph(n, strength=0.0) for n in range(6)]
    test = [photograph(100 + n, strength=0.0) for n in range(3)]
    whole, part = (
        off.make("board_ae", **(SMALL | {"steps": 10} | left)).fit(still).anomaly_score(test)
        for left in ({}, without)
    )
    assert np.isfinite(part).all()
    assert not np.allclose(whole, part, rtol=1e-6)


def test_export_needs_registered_images(tmp_path: Any) -> None:
    from offnominal.image.export import Exported, NotExportable, export

    still = [photograph(n, strength=0.0) for n in range(6)]
    with pytest.raises(NotExportable, match="register=False"):
        export(off.make("board_ae", **(SMALL | {"steps": 3})).fit(still), "onnx", tmp_path / "refused")
    detector = off.make("board_ae", register=False, **(SMALL | {"steps": 3})).fit(still)
    exported = Exported(export(detector, "onnx", tmp_path / "made"))
    np.testing.assert_allclose(exported.anomaly_score(still), detector.anomaly_score(still), rtol=1e-3)


@pytest.mark.parametrize("given", [{"compare": "eyes"}, {"content": 0.0, "pixels": 0.0}], ids=str)
def test_settings_without_sense_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"features or pixels|no loss"):
        off.make("board_ae", **(SMALL | given)).fit([photograph(0), photograph(1)])
