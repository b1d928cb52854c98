"""Pixel measures: exact ones against independent references, streamed ones within 1e-4 of the exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn import metrics as reference

from offnominal import metrics
from offnominal.metrics import pixels


def scene(rng, shape, anomalous=True):
    mask = np.zeros(shape, dtype=bool)
    if anomalous:
        for _ in range(rng.integers(1, 4)):
            y, x = rng.integers(0, shape[0] - 8), rng.integers(0, shape[1] - 8)
            mask[y : y + rng.integers(2, 30), x : x + rng.integers(2, 30)] = True
    noise = ndimage.gaussian_filter(rng.normal(size=shape), 4) * 8
    lift = ndimage.gaussian_filter(mask.astype(float), 3) * rng.uniform(0, 3)
    return mask, (noise + lift).astype(np.float32)


def scenes(count, shape, seed=0):
    rng = np.random.default_rng(seed)
    pairs = [scene(rng, shape, anomalous=i % 2 == 1) for i in range(count)]
    return [mask for mask, _ in pairs], [scores for _, scores in pairs]


def pro_by_brute_force(masks, maps, limit):
    """The definition, threshold by threshold over every distinct score, and the trapezium rule."""
    regions = []
    for i, mask in enumerate(masks):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [maps[i][labels == k] for k in range(1, count + 1)]
    normal = np.concatenate([scores[~mask] for mask, scores in zip(masks, maps, strict=True)])
    fpr, pro = [0.0], [0.0]
    for threshold in np.unique(np.concatenate([scores.ravel() for scores in maps]))[::-1]:
        fpr.append(np.mean(normal >= threshold))
        pro.append(np.mean([np.mean(region >= threshold) for region in regions]))
    area = 0.0
    for x0, x1, y0, y1 in zip(fpr[:-1], fpr[1:], pro[:-1], pro[1:], strict=True):
        if x0 < x1 and x0 < limit:
            end = min(x1, limit)
            area += (end - x0) * (2 * y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return area / limit


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.3, 1.0]), st.integers(1, 30))
def test_pro_equals_its_definition_with_ties_and_mixed_sizes(seed, limit, levels):
    rng = np.random.default_rng(seed)
    maps = [rng.integers(0, levels, shape).astype(float) for shape in ((9, 7), (5, 12), (6, 6))]
    masks = [rng.random(scores.shape) < 0.25 for scores in maps]
    masks[0][0, 0], masks[0][0, 1] = True, False
    expected = pro_by_brute_force(masks, maps, limit)
    assert metrics.aupro(masks, maps, limit) == pytest.approx(expected, abs=1e-12)
    assert metrics.aupro(masks, maps, limit, exact=True) == pytest.approx(expected, abs=1e-12)


def test_pooled_measures_equal_scikit_learn():
    masks, maps = scenes(6, (60, 70))
    truth = np.concatenate([mask.ravel() for mask in masks])
    scores = np.concatenate([scores.ravel() for scores in maps])
    found = metrics.pixel_measures(masks, maps)
    assert found["auroc"] == pytest.approx(reference.roc_auc_score(truth, scores), abs=1e-10)
    assert found["average_precision"] == pytest.approx(
        reference.average_precision_score(truth, scores), abs=1e-10
    )
    called = [scores >= found["threshold"] for scores in maps]
    assert found["iou"] == pytest.approx(metrics.iou(np.stack(masks), np.stack(called)))
    assert found["dice"] == pytest.approx(metrics.dice(np.stack(masks), np.stack(called)))
    assert metrics.max_dice(masks, maps) == (found["dice"], found["threshold"])
    precision, recall, _ = reference.precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert found["f1_max"] == pytest.approx(f1.max(), abs=1e-12)


TRANSFORMS = {
    "smooth": lambda a: a,
    "negative": lambda a: a - 50,
    "narrow": lambda a: 1000 + a * 0.01,
    "heavy tails": lambda a: np.sign(a) * np.exp(np.minimum(np.abs(a) * 6, 60)),
    "few levels": lambda a: np.round(a * 3),
    "tiny": lambda a: a * 1e-30,
    "constant": lambda a: np.full_like(a, 0.25),
}


@pytest.fixture(scope="module")
def large():
    masks, maps = scenes(24, (256, 256))
    # Small enough to be counted exactly: the tests that stream it lower that bound.
    assert sum(scores.size for scores in maps) > 1.4 * pixels.BLOCK
    return masks, maps


@pytest.fixture
def always_streamed(monkeypatch):
    monkeypatch.setattr(pixels, "KEPT", 1 << 19)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_histogram_is_within_a_ten_thousandth(large, always_streamed, name):
    masks, maps = large
    maps = [TRANSFORMS[name](scores).astype(np.float32) for scores in maps]
    exact = metrics.pixel_measures(masks, maps, exact=True)
    streamed = metrics.pixel_measures(iter(masks), (scores for scores in maps))
    for measure in ("auroc", "average_precision", "aupro", "f1_max", "iou", "dice"):
        assert streamed[measure] == pytest.approx(exact[measure], abs=1e-4), measure


def test_scores_that_drift_during_the_stream_stay_within_a_ten_thousandth(large, always_streamed):
    masks, maps = large
    order = np.argsort([mask.any() for mask in masks], kind="stable")  # all normal maps come first
    masks = [masks[i] for i in order]
    maps = [maps[i] + np.float32(3 * (rank > 16)) for rank, i in enumerate(order)]
    exact = metrics.pixel_measures(masks, maps, exact=True)
    streamed = metrics.pixel_measures(masks, maps)
    for measure in ("auroc", "average_precision", "aupro", "f1_max"):
        assert streamed[measure] == pytest.approx(exact[measure], abs=1e-4), measure


def test_a_rising_transform_changes_no_measure():
    masks, maps = scenes(4, (64, 64))
    warped = [np.exp(scores.astype(float) / 3) for scores in maps]
    for measure in (metrics.pixel_auroc, metrics.pixel_average_precision, metrics.aupro):
        assert measure(masks, warped, exact=True) == pytest.approx(measure(masks, maps, exact=True))


def test_pro_curve_rises_to_one_and_its_thresholds_reproduce_it():
    masks, maps = scenes(4, (64, 64))
    fpr, pro, thresholds = metrics.pro_curve(masks, maps)
    assert (fpr[0], pro[0], thresholds[0]) == (0.0, 0.0, np.inf)
    assert (fpr[-1], pro[-1]) == (pytest.approx(1.0), pytest.approx(1.0))
    assert np.all(np.diff(fpr) >= 0)
    assert np.all(np.diff(thresholds) < 0)
    normal = np.concatenate([scores[~mask] for mask, scores in zip(masks, maps, strict=True)])
    for at in (1, len(fpr) // 3, len(fpr) - 1):
        assert np.mean(normal >= thresholds[at]) == pytest.approx(fpr[at])


def test_a_mask_of_none_is_all_normal_and_one_buffer_may_be_reused():
    masks, maps = scenes(4, (64, 64))
    buffer = np.empty((64, 64), dtype=np.float32)

    def reused():
        for scores in maps:
            buffer[...] = scores
            yield buffer

    sparse = [mask if mask.any() else None for mask in masks]
    assert metrics.aupro(sparse, reused()) == metrics.aupro(masks, maps)


def test_spro_saturates_and_without_saturation_is_pro():
    masks, maps = scenes(6, (64, 64), seed=4)
    annotations, full = [], []
    for mask in masks:
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        annotations.append([labels == k for k in range(1, count + 1)])
        full.append([float(np.sum(part)) for part in annotations[-1]])
    assert metrics.spro(annotations, maps, full, 0.3) == pytest.approx(metrics.aupro(masks, maps))
    half = [[area / 2 for area in row] for row in full]
    normal = np.sort(np.concatenate([s[~m] for m, s in zip(masks, maps, strict=True)]))[::-1]
    parts = [
        (np.sort(scores[part])[::-1], area)
        for row, scores, areas in zip(annotations, maps, half, strict=True)
        for part, area in zip(row, areas, strict=True)
    ]
    # With distinct scores the curve is a step between normals: its area is the mean over normals above.
    within = int(0.3 * len(normal))
    values = [np.mean([min(np.sum(p > t) / area, 1.0) for p, area in parts]) for t in normal[:within:7]]
    assert metrics.spro(annotations, maps, half, 0.3) == pytest.approx(np.mean(values), abs=5e-3)
    assert metrics.spro(annotations, maps, half, 0.3) > metrics.aupro(masks, maps)


def test_overlapping_annotations_count_each_for_itself():
    scores = np.array([[3.0, 2.0, 1.0, 0.0]])
    first, second = np.array([[1, 1, 0, 0]]), np.array([[0, 1, 1, 0]])
    assert metrics.spro([[first, second]], [scores], [[1, 1]], 1.0) == pytest.approx(1.0)
    assert metrics.saturation_area(first, 0.5, relative=True) == 1.0
    assert metrics.saturation_area(first, 7, relative=False) == 2.0


def test_what_is_not_defined_is_nan():
    flat = [np.arange(12.0).reshape(3, 4)]
    for mask in (np.zeros((3, 4)), np.ones((3, 4))):
        assert np.isnan(metrics.pixel_auroc([mask], flat))
        assert np.isnan(metrics.aupro([mask], flat))
    assert np.isnan(metrics.aupro([], []))
    assert np.isnan(metrics.iou(np.zeros(3), np.zeros(3)))
    assert np.isnan(metrics.dice(np.zeros(3), np.zeros(3)))


@pytest.mark.parametrize(
    ("masks", "maps", "says"),
    [
        ([np.zeros((2, 2))], [np.zeros((2, 3))], "map 0: mask of shape"),
        ([None, None], [np.zeros((2, 2)), np.full((2, 2), np.nan)], "map 1: .*finite"),
        ([None], [np.full((2, 2), 1e300)], "float32"),
        ([np.ones((2, 2, 2))], [np.zeros((2, 2, 2))], "regions need"),
        ([None, None], [np.zeros((2, 2))], "shorter"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(masks, maps, says):
    with pytest.raises(ValueError, match=says):
        metrics.aupro(masks, maps)


def test_a_limit_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="limit"):
        metrics.aupro([], [], 0.0)
