"""Pixel statistics, Gaussian and PaDiM against the formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import offnominal as off
from offnominal.core.seeds import generator
from offnominal.decide import ChiSquare
from offnominal.encoders import PatchHead, PoolHead, image_encoder

SIZE = 64


def _scene(seed: int = 0) -> Any:
    """A picture whose parts can be told apart, larger than needed so that shifts bring real content in."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=(SIZE + 32, SIZE + 32, 3))
    smooth = gaussian_filter(noise, (2, 2, 0))
    return np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def _cut(scene: Any, down: int, right: int) -> Any:
    return scene[16 - down : 16 - down + SIZE, 16 - right : 16 - right + SIZE]


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-5, 6), (6, 6), (0, -1)])
def test_alignment_finds_a_known_shift(shift: tuple[int, int]) -> None:
    scene = _scene()
    detector = off.make("pixel_statistics", image_size=SIZE, largest_shift=0.1).fit([_cut(scene, 0, 0)] * 3)
    moved = _cut(scene, *shift)
    rows, columns = detector._shift(moved.mean(axis=2, dtype=np.float32))  # type: ignore[attr-defined]
    assert (rows, columns) == (-shift[0], -shift[1])


def test_alignment_stays_within_its_reach_and_can_be_off() -> None:
    scene = _scene()
    near, off_ = (
        off.make("pixel_statistics", image_size=SIZE, largest_shift=share).fit([_cut(scene, 0, 0)] * 3)
        for share in (0.05, 0.0)
    )
    grey = _cut(scene, 9, 9).mean(axis=2, dtype=np.float32)
    assert max(map(abs, near._shift(grey))) <= 3  # type: ignore[attr-defined]
    assert off_._shift(grey) == (0, 0)  # type: ignore[attr-defined]


def test_shifted_normals_score_as_normals() -> None:
    scene = _scene()
    shifts = [(0, 0), (2, 1), (-2, 3), (4, -4), (-1, -3), (3, 3)]
    train = [_cut(scene, *shift) for shift in shifts]
    probe, defect = _cut(scene, -4, 2), _cut(scene, -4, 2).copy()
    defect[20:32, 20:32] = 255 - defect[20:32, 20:32]
    with_, without = (
        off.make("pixel_statistics", image_size=SIZE, largest_shift=share).fit(train) for share in (0.1, 0.0)
    )
    aligned, blind = with_.anomaly_score([probe, defect]), without.anomaly_score([probe, defect])
    assert aligned[1] / aligned[0] > 2 * blind[1] / blind[0]
    place = with_.anomaly_map([defect])[0]
    row, column = np.unravel_index(place.argmax(), place.shape)
    assert 12 <= row < 40
    assert 12 <= column < 40


def test_pixel_statistics_is_the_formula() -> None:
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(3)
    images = [np.clip(random.normal(120, 20, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8) for _ in range(9)]
    detector = off.make("pixel_statistics", image_size=SIZE, largest_shift=0.0, blur=1.5, floor=2.0)
    detector.fit(images[:8])
    blurred = gaussian_filter(np.stack(images).astype(float), (0, 1.5, 1.5, 0), mode="nearest")
    mean, variance = blurred[:8].mean(axis=0), blurred[:8].var(axis=0)
    expected = (np.abs(blurred[8] - mean) / np.sqrt(variance + 2.0**2)).max(axis=2)
    np.testing.assert_allclose(detector.anomaly_map(images[8:])[0], expected, atol=1e-3)
    assert detector.anomaly_score(images[8:])[0] == pytest.approx(np.quantile(expected, 0.999), rel=1e-3)


def _noisy(count: int, seed: int) -> list[Any]:
    scene = _cut(_scene(), 0, 0).astype(float)
    random = np.random.default_rng(seed)
    return [np.clip(scene + random.normal(0, 15, scene.shape), 0, 255).astype(np.uint8) for _ in range(count)]


def test_gaussian_is_mahalanobis_with_ledoit_wolf() -> None:
    covariance = pytest.importorskip("sklearn.covariance")
    train, test = _noisy(12, 0), _noisy(5, 1)
    detector = off.make("gaussian", image_size=SIZE, levels=("3", "6"), precision="fp32").fit(train)
    encoder = image_encoder(levels=("3", "6"), size=SIZE, precision="fp32", head=PoolHead(join=False))
    expected = np.zeros(5)
    for rows, probes in zip(encoder.encode(np.stack(train)), encoder.encode(np.stack(test)), strict=True):
        model = covariance.LedoitWolf().fit(rows.astype(float))
        expected += np.sqrt(model.mahalanobis(probes.astype(float)))
    np.testing.assert_allclose(detector.anomaly_score(test), expected, rtol=1e-3)


def test_chi_square_on_one_level_gives_the_papers_threshold() -> None:
    from scipy.stats import chi2

    train = _noisy(80, 0)
    detector = off.make("gaussian", image_size=SIZE, levels=("0",), precision="fp32").fit(train)
    dimensions = detector.dimensions_[0]  # type: ignore[attr-defined]
    assert dimensions == 16
    detector.calibrate(_noisy(40, 1), decision=ChiSquare(0.05, degrees_of_freedom=dimensions))
    assert detector.decision_ is not None
    assert detector.decision_.threshold == pytest.approx(np.sqrt(chi2.ppf(0.95, 16)))
    records = detector.detect([*_noisy(5, 2), 255 - train[0]]).collect()
    assert {record.basis for record in records} == {"declared"}
    np.testing.assert_allclose(records.p_values, chi2.sf(records.scores**2, 16), rtol=1e-6)
    assert records[-1].anomalous


def test_padim_is_a_gaussian_at_each_position() -> None:
    train, test = _noisy(12, 0), _noisy(3, 1)
    detector = off.make(
        "padim", image_size=SIZE, levels=("4", "6"), dimensions=10, smoothing=0.0, precision="fp32", seed=2
    ).fit(train)
    encoder = image_encoder(levels=("4", "6"), size=SIZE, precision="fp32", head=PatchHead(neighbourhood=1))
    drawn = np.sort(generator(2, "padim", "channels").choice(96, 10, replace=False))
    (rows,) = encoder.encode(np.stack(train))
    (probes,) = encoder.encode(np.stack(test))
    rows, probes = rows[..., drawn].astype(float), probes[..., drawn].astype(float)
    expected = np.empty(probes.shape[:3])
    for i in range(rows.shape[1]):
        for j in range(rows.shape[2]):
            inverse = np.linalg.inv(np.cov(rows[:, i, j].T) + 0.01 * np.eye(10))
            apart = probes[:, i, j] - rows[:, i, j].mean(axis=0)
            expected[:, i, j] = np.sqrt(np.einsum("nd,de,ne->n", apart, inverse, apart))
    np.testing.assert_allclose(detector.anomaly_score(test), expected.max(axis=(1, 2)), rtol=1e-3)
