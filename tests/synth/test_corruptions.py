"""Corruptions do what their names say, more so with severity, and leave the image's form alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offnominal.synth import CORRUPTIONS, SEVERITIES, corrupt


def photograph(dtype: str) -> np.ndarray:
    random = np.random.default_rng(3)
    waves = np.sin(np.arange(48)[:, None] / 4) * np.cos(np.arange(64) / 5)
    picture = 0.45 + 0.2 * waves[..., None] + random.normal(0, 0.02, (48, 64, 3))
    return (picture * {"uint8": 255, "uint16": 65535, "float32": 7.0}[dtype]).astype(dtype)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(CORRUPTIONS),
    severity=st.sampled_from(SEVERITIES),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
)
def test_type_shape_and_range_stay_and_the_original_is_left_alone(kind, severity, dtype) -> None:
    image = photograph(dtype)
    before = image.copy()
    found = corrupt(image, kind, severity)
    assert (found.dtype, found.shape) == (image.dtype, image.shape)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(found, corrupt(image, kind, severity))


def test_each_kind_changes_what_it_names_and_grows_with_severity() -> None:
    image = photograph("uint8")
    made = {kind: [corrupt(image, kind, s).astype(float) for s in SEVERITIES] for kind in CORRUPTIONS}
    assert np.all(np.diff([found.mean() for found in made["brightness"]]) > 5)
    assert np.all(np.diff([found.std() for found in made["contrast"]]) < 0)
    assert made["contrast"][0].mean() == pytest.approx(image.mean(), abs=1)
    rough = [np.abs(np.diff(found, axis=1)).mean() for found in made["blur"]]
    assert np.all(np.diff(rough) < 0)
    noise = [np.abs(found - image).mean() for found in made["noise"]]
    assert np.all(np.diff(noise) > 0)
    assert noise[0] == pytest.approx(0.08 * 255 * np.sqrt(2 / np.pi), rel=0.1)


def test_an_unknown_kind_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="brightness, contrast, blur, noise"):
        corrupt(photograph("uint8"), "fog", 1)
    with pytest.raises(ValueError, match="severity 1 to 5"):
        corrupt(photograph("uint8"), "blur", 6)
