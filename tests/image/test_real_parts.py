"""A golden run on real parts: measures, never raw scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import offnominal as off
from offnominal.core.seeds import generator
from offnominal.data import images
from offnominal.metrics import auroc

pytestmark = pytest.mark.data

# name → parameters, AUROC floor (measured 0.939, 0.929, 0.939, 0.948, 0.960)
METHODS = {
    "patchcore": ({"bank_size": 1000}, 0.9),
    "padim": ({"dimensions": 50}, 0.88),
    "gaussian": ({"levels": ("10",)}, 0.9),
    "embedding_knn": ({}, 0.91),
    "pixel_statistics": ({}, 0.92),
}


def _some(folder: Path, count: int) -> list[str]:
    files = sorted(str(file) for file in folder.rglob("*.jpg"))
    files = files or sorted(str(file) for file in folder.rglob("*.png"))
    drawn = generator(0, "golden", folder.name).choice(len(files), count, replace=False)
    return [files[place] for place in np.sort(drawn)]


def test_every_image_detector_that_does_not_train_is_in_the_golden_run() -> None:
    cards = [card for card in off.catalogue() if (card.kind, card.modality) == ("detector", "image")]
    assert {card.name for card in cards if not card.trains} == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_ball_screw(name: str, data_root: Path) -> None:
    root = data_root / "industrial" / "ball_screw"
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    parameters, floor = METHODS[name]
    (kind,) = [entry.name for entry in (root / "test").iterdir() if entry.is_dir() and entry.name != "good"]
    detector = off.make(name, image_size=128, **parameters).fit(_some(root / "train" / "good", 60))
    test = images([*_some(root / "test" / "good", 40), *_some(root / "test" / kind, 40)])
    found = auroc([0] * 40 + [1] * 40, detector.anomaly_score(test))
    assert found > floor
