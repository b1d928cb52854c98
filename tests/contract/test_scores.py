from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import DETECTORS, Case

import offnominal as off
from offnominal.core.errors import BadItems, BadSource, NotFittedError
from offnominal.detector import Detector

SAME = 1e-5  # relative, in single precision: alone, in a batch, after reload
THREADS = 1e-4


def _items(case: Case) -> list[Any]:
    return case.world.normals(18, name="other") + case.world.defects(5)[0]


def test_scores_are_finite_numbers_one_an_item(case: Case, fitted: Detector) -> None:
    items = _items(case)
    scores = fitted.anomaly_score(items)
    assert scores.shape == (len(items),)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert np.ptp(scores) > 0


@pytest.mark.card(scope="item")
def test_alone_as_in_a_batch_as_in_any_order(case: Case, fitted: Detector) -> None:
    items = _items(case)
    scores = fitted.anomaly_score(items)
    alone = np.concatenate([fitted.anomaly_score([item]) for item in items])
    np.testing.assert_allclose(alone, scores, rtol=SAME)
    order = np.random.default_rng(1).permutation(len(items))
    np.testing.assert_allclose(fitted.anomaly_score([items[i] for i in order]), scores[order], rtol=SAME)


def test_same_scores_after_reload(case: Case, tmp_path: Path) -> None:
    detector = case.make().fit(case.world.normals(8))
    items = _items(case)
    scores = detector.anomaly_score(items)
    detector.save(tmp_path / "model")
    again = off.load(tmp_path / "model")
    np.testing.assert_allclose(again.anomaly_score(items), scores, rtol=SAME)
    assert again.get_params() == detector.get_params()
    if case.card.localises:
        for one, two in zip(again.anomaly_map(items[-2:]), detector.anomaly_map(items[-2:]), strict=True):
            np.testing.assert_allclose(one, two, rtol=SAME)


def test_detect_and_score_agree(case: Case, fitted: Detector) -> None:
    items = _items(case)
    found = fitted.detect(items).collect()
    np.testing.assert_allclose(found.scores, fitted.anomaly_score(items), rtol=SAME)


def test_items_are_not_written_to(case: Case, frozen: Callable[[Any], None]) -> None:
    items = case.world.normals(8)
    before = [item.copy() for item in items]
    frozen(items)
    detector = case.make().fit(items)
    detector.anomaly_score(items)
    list(detector.detect(items))
    for one, two in zip(items, before, strict=True):
        np.testing.assert_array_equal(one, two)


def test_scoring_changes_nothing(case: Case, fitted: Detector) -> None:
    items = _items(case)[-6:]
    first = fitted.anomaly_score(items)
    list(fitted.detect(_items(case)))
    np.testing.assert_array_equal(fitted.anomaly_score(items), first)


def test_not_fitted_is_said(case: Case, tmp_path: Path) -> None:
    items = case.world.normals(1)
    if "zero-shot" in case.card.setting:
        case.make().anomaly_score(items)
        return
    for call in ("anomaly_score", "predict", "detect", "calibrate"):
        with pytest.raises(NotFittedError, match="fit"):
            getattr(case.make(), call)(items)
    with pytest.raises(NotFittedError, match="not fitted"):
        case.make().save(tmp_path / "model")


def test_array_methods_list_every_bad_item(case: Case, fitted: Detector) -> None:
    good, bad = case.world.normals(2), case.world.broken()
    for call in ("anomaly_score", "predict", "calibrate"):
        with pytest.raises(BadItems) as caught:
            getattr(fitted, call)([bad, good[0], bad, good[1]])
        assert [entry.item for entry in caught.value.items] == ["0", "2"]


@pytest.mark.card(localises=True)
def test_map_of_a_bad_item_is_refused(case: Case, fitted: Detector) -> None:
    maps = fitted.anomaly_map([case.world.normals(1)[0], case.world.broken()])
    assert len(maps) == 2
    assert maps[0].size
    with pytest.raises(BadItems):
        maps[1]


def test_nothing_to_learn_from_is_said(case: Case) -> None:
    world = case.world
    with pytest.raises(BadSource, match="no usable item"):
        case.make().fit(world.source([world.broken()], on_bad="skip"))
    with pytest.raises(BadSource):
        case.make().fit([])


_SCORE = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from cases import DETECTORS
import offnominal as off
out = {}
for case in DETECTORS:
    items = case.world.normals(10, name="other") + case.world.defects(3)[0]
    detector = off.load(sys.argv[2] + "/" + str(case))
    out[str(case)] = detector.anomaly_score(items)
    if not case.card.trains:  # a training goes on from each rounding
        out[str(case) + " fitted"] = case.make().fit(case.world.normals(8)).anomaly_score(items)
np.savez(sys.argv[3], **out)
"""


@pytest.mark.slow
def test_scores_agree_across_thread_counts(tmp_path: Path) -> None:
    for case in DETECTORS:
        case.make().fit(case.world.normals(8)).save(tmp_path / "models" / str(case))
    found = []
    for threads in ("1", "2"):
        out = tmp_path / f"{threads}.npz"
        subprocess.run(
            [sys.executable, "-c", _SCORE, str(Path(__file__).parent), str(tmp_path / "models"), str(out)],
            check=True,
            env={**os.environ, "OFFNOMINAL_THREADS": threads},
        )
        with np.load(out) as arrays:
            found.append(dict(arrays))
    assert len(found[0]) == 2 * len(DETECTORS) - sum(case.card.trains for case in DETECTORS)
    for name in found[0]:
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=THREADS, err_msg=name)
