"""Small made-up boards for tests of methods that train on pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from offnominal.core.seeds import generator
from offnominal.metrics import auroc
from offnominal.synth import generate

SIZE = 64


def boards(count: int, first: int = 0) -> list[np.ndarray]:
    """A fixed pattern under slightly other light, with noise."""
    found = []
    for number in range(first, first + count):
        random = generator(11, "scenes", str(number))
        y, x = np.mgrid[:SIZE, :SIZE] / SIZE
        base = 110 + 30 * np.sin(9 * x + 2 * np.sin(5 * y)) + 25 * ((x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.06)
        picture = base[..., None] * [0.9, 1.0, 1.1] * random.uniform(0.95, 1.05)
        picture = picture + random.normal(0, 4, (SIZE, SIZE, 3))
        found.append(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    return found


def found_where_they_are(detector: Any, kinds: list[str], count: int = 12) -> tuple[float, float]:
    """AUROC of fresh boards against the same with planted defects, and the median AUROC over pixels."""
    fresh = boards(count, 100)
    planted = generate(boards(count, 200), count, kinds=kinds, seed=4)
    scores = detector.anomaly_score([*fresh, *planted.items])
    maps = detector.anomaly_map(planted.items)
    ranks = [
        auroc(mask.ravel().astype(int), found.ravel())
        for mask, found in zip(planted.masks, maps, strict=True)
    ]
    return auroc([0] * count + [1] * count, scores), float(np.median(ranks))
