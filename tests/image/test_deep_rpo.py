"""Deep random projection outlyingness on images: several kinds of normal, and what is of none."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from offnominal.core.seeds import generator  # noqa: E402
from offnominal.image.deep_rpo import DeepRPO  # noqa: E402
from offnominal.metrics import auroc  # noqa: E402

SIZE = 64


def textures(count: int, kind: str, first: int = 0) -> list[np.ndarray]:
    """Stripes, checks or rings, with noise."""
    y, x = np.mgrid[:SIZE, :SIZE]
    bases = {
        "stripes": np.sin(y / 2.0),
        "checks": np.sin(y / 3.0) * np.sin(x / 3.0),
        "rings": np.sin(np.hypot(y - 32, x - 32) / 2.0),
        "dots": -np.cos(y / 1.6) * np.cos(x / 1.6) > 0.6,
    }
    found = []
    for number in range(first, first + count):
        random = generator(13, "deep rpo", kind, str(number))
        picture = 120 + 60 * np.roll(bases[kind], random.integers(0, 30, 2), (0, 1))[..., None]
        found.append(np.clip(picture + random.normal(0, 8, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8))
    return found


def small(**parameters: object) -> DeepRPO:
    return DeepRPO(image_size=SIZE, levels=("10",), hidden=(64,), latent=16, projections=200, **parameters)  # type: ignore[arg-type]


def test_two_kinds_are_normal_and_two_are_not() -> None:
    detector = small(steps=150).fit([*textures(20, "stripes"), *textures(20, "checks")])
    fresh = [*textures(10, "stripes", 50), *textures(10, "checks", 50)]
    other = [*textures(10, "rings"), *textures(10, "dots")]
    assert auroc([0] * 20 + [1] * 20, detector.anomaly_score([*fresh, *other])) > 0.95


def test_network_gives_the_mean_outlyingness_of_its_codes() -> None:
    normal = textures(16, "stripes")
    detector = small(steps=20)
    kept = []
    train = type(detector)._train

    def watched(self: DeepRPO, features: object) -> object:
        kept.append((train(self, features), features.take(range(features.count))[0]))  # type: ignore[arg-type,attr-defined]
        return kept[0][0]

    detector._train = watched.__get__(detector)  # type: ignore[method-assign]
    detector.fit(normal)
    network, rows = kept[0]
    with torch.no_grad():
        values = network.encode(torch.from_numpy(rows)).double() @ network.directions.double()
        found = network(torch.from_numpy(rows))
    values = values.numpy()
    middle = np.median(values, axis=0)
    spread = np.median(np.abs(values - middle), axis=0)
    np.testing.assert_allclose(found.numpy(), np.abs((values - middle) / spread).mean(1), rtol=5e-3)
