"""Real weights on real photographs: the classifiers name what is there, and no precision moves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offnominal.encoders import PatchHead, image_encoder
from offnominal.encoders.availability import available

CARRIED = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "mobilenet_v2")


def photographs(root: Path, step: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    files = sorted((root / "natural" / "imagenet_sample").iterdir())
    taken = range(0, len(files), step)
    images = [
        np.asarray(Image.open(files[at]).convert("RGB").resize((side, side), Image.Resampling.BICUBIC))
        for at in taken
    ]
    return np.stack(images), np.array(taken)


@pytest.mark.data
@pytest.mark.parametrize("name", CARRIED)
def test_classifiers_name_photographs(data_root: Path, name: str) -> None:
    if not any(row.present for row in available() if row.name == name):
        pytest.skip(f"the weights of {name} are not on this machine")
    images, labels = photographs(data_root, 5, 224)
    (logits,) = image_encoder(name, levels=("logits",), size=224).encode(images)
    assert (logits.argmax(1) == labels).mean() > 0.65


@pytest.mark.data
@pytest.mark.parametrize("name", CARRIED)
def test_the_automatic_precision_keeps_the_features(data_root: Path, name: str) -> None:
    if not any(row.present for row in available() if row.name == name):
        pytest.skip(f"the weights of {name} are not on this machine")
    images, _ = photographs(data_root, 50, 256)
    exact, chosen = (
        image_encoder(name, precision=precision, runtime="openvino", head=PatchHead()).encode(images)[0]
        for precision in ("fp32", "auto")
    )
    assert np.linalg.norm(chosen - exact) <= 2e-2 * np.linalg.norm(exact)
