"""What a page keeps of a run: the most anomalous, typical normals, one colour scale."""

from __future__ import annotations

import numpy as np
import pytest

from offnominal.core.detections import Detection
from offnominal.report.gather import gather


def run(scores, *, limit=None, peak=lambda score: score, base=0.0):
    for place, score in enumerate(scores):
        heat = np.full((8, 8), base, dtype=np.float32)
        heat[2, 3] = peak(score)
        anomalous = None if limit is None else bool(score > limit)
        yield Detection(str(place), "s", place, score=float(score), anomalous=anomalous, map=heat)


def test_ranked_kept_and_dropped_agree_with_a_plain_sort():
    scores = np.random.default_rng(0).permutation(500) / 100
    found = gather(run(scores, limit=4.5), pictures=20, typical=3)
    assert [record.score for record in found.ranked] == sorted(scores, reverse=True)
    assert found.top == list(range(20))
    assert all(found.maps[place].max() == pytest.approx(found.ranked[place].score) for place in found.top)
    assert all(record.map is None for record in found.ranked)
    assert len(found.maps) == 23


def test_typical_normals_are_normals_near_the_middle():
    found = gather(run(np.arange(400.0), limit=350), pictures=10, typical=4)
    chosen = [found.ranked[place].score for place in found.typical]
    assert len(chosen) == 4
    assert all(abs(score - 175) < 40 for score in chosen)


def test_verdicts_rank_before_scores_of_another_product():
    records = [
        Detection("a", "s", score=90.0, anomalous=False, product="big"),
        Detection("b", "s", score=2.0, anomalous=True, product="small"),
    ]
    assert [record.item for record in gather(records, pictures=1, typical=0).ranked] == ["b", "a"]


def test_the_scale_runs_from_normal_peaks_to_strong_finds():
    found = gather(run([*[1.0] * 50, *[5.0] * 9, 1000.0], limit=2), pictures=60, typical=0)
    assert found.scale.low == pytest.approx(1.0)
    assert found.scale.high < 200


def test_a_run_without_anomalies_does_not_paint_noise_bright():
    found = gather(run(np.linspace(1.0, 1.1, 40), limit=2, base=0.2), pictures=60, typical=0)
    assert (1.1 - found.scale.low) / (found.scale.high - found.scale.low) < 0.2


def test_maps_that_are_no_pictures_are_left_out():
    records = [Detection("a", "s", score=1.0, map=np.ones(7, dtype=np.float32))]
    found = gather(records, pictures=1, typical=1)
    assert found.maps == {}
    assert found.scale is None
