"""Labelled images become two clusters of codes; a discrepancy map helps where the image does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import offnominal as off  # noqa: E402
from offnominal.core.errors import BadItems  # noqa: E402
from offnominal.core.seeds import generator  # noqa: E402
from offnominal.image.export import NotExportable, export  # noqa: E402
from offnominal.image.latent_clusters import LatentClusters  # noqa: E402
from offnominal.image.networks.latent_clusters import ClusterScore, ClusterVAE, apart  # noqa: E402
from offnominal.metrics import auroc  # noqa: E402
from offnominal.synth import generate  # noqa: E402

SIZE = 64
SMALL: dict[str, Any] = {
    "image_size": SIZE,
    "grid": 8,
    "latent": 8,
    "side": 32,
    "steps": 120,
    "rate": 3e-3,
    "batch": 8,
    "synthetic": 30,
}


def boards(count: int, first: int = 0) -> list[np.ndarray]:
    """A fixed pattern with noise."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    base = 110 + 30 * np.sin(9 * x + 2 * np.sin(5 * y)) + 25 * ((x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.06)
    found = []
    for number in range(first, first + count):
        noise = generator(19, "clusters", str(number)).normal(0, 4, (SIZE, SIZE, 3))
        found.append(np.clip(base[..., None] + noise, 0, 255).astype(np.uint8))
    return found


def stained(count: int, first: int) -> list[np.ndarray]:
    return generate(boards(count, first), count, kinds=["stain"], seed=first).items


def test_labelled_anomalies_make_a_cluster() -> None:
    items = [*boards(30), *stained(30, 100)]
    labels = [0] * 30 + [1] * 30
    detector = LatentClusters(**SMALL).fit(items, labels)
    test = [*boards(12, 200), *stained(12, 300)]
    scores = detector.anomaly_score(test)
    assert auroc([0] * 12 + [1] * 12, scores) > 0.95
    assert ((scores > 0.5) == np.repeat([False, True], 12)).mean() > 0.8, "class is the nearer cluster"
    report = detector.clusters_
    assert report["anomalies"] == "labelled"
    assert report["accuracy"] > 0.8
    assert report["distance"] > 3
    assert report["ratio"] == pytest.approx(report["distance"] / report["spread"])


def test_planted_defects_stand_in_for_labels(tmp_path: Path) -> None:
    detector = LatentClusters(**SMALL).fit(boards(20))
    scores = detector.anomaly_score([*boards(10, 200), *stained(10, 300)])
    assert auroc([0] * 10 + [1] * 10, scores) > 0.9
    assert detector.clusters_["anomalies"] == "planted"
    detector.save(tmp_path / "model")
    assert off.load(tmp_path / "model").clusters_ == detector.clusters_  # type: ignore[attr-defined]


@pytest.mark.parametrize("without", [{"perceptual": 0.0}, {"distance": 0.0}, {"divergence": 0.0}], ids=str)
def test_each_part_can_be_left_out(without: dict[str, Any]) -> None:
    detector = LatentClusters(**(SMALL | without)).fit([*boards(20), *stained(20, 100)], [0] * 20 + [1] * 20)
    scores = detector.anomaly_score([*boards(10, 200), *stained(10, 300)])
    floor = 0.9 if detector.divergence else 0.75  # without it nothing draws codes to the centres
    assert auroc([0] * 10 + [1] * 10, scores) > floor


# -------------------------------------------------------------------------------- the fourth channel


def mapped(items: list[np.ndarray], number: int, *, marked: bool) -> list[np.ndarray]:
    """Items with a map as their fourth channel: noise, and where marked a bright spot."""
    found = []
    for place, item in enumerate(items):
        random = generator(23, "maps", str(number), str(place))
        channel = random.uniform(0, 60, (SIZE, SIZE, 1))
        if marked:
            y, x = random.integers(4, SIZE - 28, 2)
            channel[y : y + 24, x : x + 24] = 250
        found.append(np.concatenate([item, channel.astype(np.uint8)], axis=2))
    return found


def test_map_is_seen_where_the_image_shows_nothing(tmp_path: Path) -> None:
    items = [*mapped(boards(30), 0, marked=False), *mapped(boards(30, 50), 1, marked=True)]
    detector = LatentClusters(discrepancy=True, **SMALL).fit(items, [0] * 30 + [1] * 30)
    test = [*mapped(boards(10, 200), 2, marked=False), *mapped(boards(10, 300), 3, marked=True)]
    scores = detector.anomaly_score(test)
    assert auroc([0] * 10 + [1] * 10, scores) > 0.9
    alone = np.concatenate([detector.anomaly_score([item]) for item in test[8:12]])
    np.testing.assert_allclose(alone, scores[8:12], rtol=1e-5)
    with pytest.raises(BadItems, match="3 channel"):
        detector.anomaly_score(boards(1))
    with pytest.raises(NotExportable, match="discrepancy"):
        export(detector, "onnx", tmp_path / "out", sample=test[:2])


def test_map_of_planted_defects_shows_them() -> None:
    detector = LatentClusters(discrepancy=True, **SMALL).fit(mapped(boards(12), 0, marked=False))
    scores = detector.anomaly_score(
        [*mapped(boards(8, 90), 5, marked=False), *mapped(stained(8, 99), 6, marked=True)]
    )
    assert auroc([0] * 8 + [1] * 8, scores) > 0.8


def test_images_without_the_map_are_refused() -> None:
    with pytest.raises(BadItems, match="fourth channel"):
        LatentClusters(discrepancy=True, **SMALL).fit(boards(4))


# -------------------------------------------------------------------------------- the network


def model(separation: float = 6.0) -> ClusterVAE:
    return ClusterVAE(torch.nn.Identity(), 5, 8, 4, 16, separation, discrepancy=False)


def test_centres_lie_as_far_apart_as_asked() -> None:
    low, high = model().centres(torch.tensor([0.0, 1.0]))
    assert float((high - low).norm()) == pytest.approx(6.0, rel=1e-5)
    network = model()
    normal, off_ = network.distances(network.centres(torch.tensor([0.0, 1.0])))
    torch.testing.assert_close(normal, torch.tensor([0.0, 6.0]))
    torch.testing.assert_close(off_, torch.tensor([6.0, 0.0]))


def test_score_is_the_share_of_the_distance() -> None:
    network = model().eval()
    features = torch.randn(3, 8, 8, 5)
    with torch.no_grad():
        means, _ = network.encode(features, None)
        found = ClusterScore(network)(features)
    low, high = network.centres(torch.tensor([0.0, 1.0]))
    for place, mean in enumerate(means):
        normal, off_ = float((mean - low).norm()), float((mean - high).norm())
        assert float(found[place]) == pytest.approx(normal / (normal + off_), rel=1e-5)


def test_apart_is_zero_beyond_the_separation_and_with_one_class() -> None:
    labels = torch.tensor([0.0, 0.0, 1.0, 1.0])
    codes = torch.tensor([[0.0, 1], [0, -1], [3, 1], [3, -1]])
    assert float(apart(codes, labels, 2.0)) == 0
    assert float(apart(codes, labels, 5.0)) == pytest.approx((5 - 3) ** 2 / 5)
    assert float(apart(codes, torch.zeros(4), 5.0)) == 0


def test_decoder_gives_pixels() -> None:
    with torch.no_grad():
        made = model().decode(torch.randn(2, 4))
    assert made.shape == (2, 16, 16, 3)
    assert 0 <= float(made.min()) <= float(made.max()) <= 255


@pytest.mark.parametrize("wrong", [{"grid": 6}, {"side": 40}, {"side": 16}])
def test_sizes_that_cannot_be_halved_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="divisible"):
        LatentClusters(**(SMALL | wrong)).fit(boards(4))
