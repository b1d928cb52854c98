"""Every detector finds planted defects: a method that lost a step of its own falls below these floors."""

from __future__ import annotations

import numpy as np
import pytest
from cases import Case
from scipy.ndimage import binary_dilation

from offnominal.detector import Detector
from offnominal.metrics import auroc

FLOOR = 0.95  # measured: all at 1.0; chance is 0.5


def test_planted_defects_score_higher(case: Case, fitted: Detector) -> None:
    normal, off_ones = case.world.normals(30, name="other"), case.world.defects(30)[0]
    scores = fitted.anomaly_score([*normal, *off_ones])
    assert auroc([0] * 30 + [1] * 30, scores) > FLOOR


def test_fresh_normals_are_not_called_anomalous_more_often_than_asked(case: Case) -> None:
    from offnominal.decide import Conformal

    normals = case.world.normals(125 if case.card.trains else 50)  # trained methods hold a fifth out
    detector = case.make().fit(normals, decision=Conformal(0.1))
    alarms = detector.predict(case.world.normals(100, name="fresh")).mean()
    assert alarms <= 0.25
    assert detector.predict(case.world.defects(30)[0]).mean() > 0.8


@pytest.mark.card(localises=True)
def test_map_peaks_on_the_defect(case: Case, fitted: Detector) -> None:
    items, masks = case.world.defects(20)
    hits, inside, outside = 0, [], []
    for place, mask in zip(fitted.anomaly_map(items), masks, strict=True):
        near = binary_dilation(mask, iterations=4)
        hits += bool(near.ravel()[place.argmax()])
        inside.append(place[mask].mean())
        outside.append(place[~near].mean())
    assert hits >= 17
    assert np.mean(np.array(inside) > np.array(outside)) > 0.9


@pytest.mark.card(localises=True)
def test_regions_cover_the_defect(case: Case, fitted: Detector) -> None:
    items, masks = case.world.defects(20)
    covered = 0
    for record, mask in zip(fitted.detect(items), masks, strict=True):
        if record.regions:
            x0, y0, x1, y1 = record.regions[0].where
            covered += bool(mask[y0:y1, x0:x1].any())
    assert covered >= 17
