from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from cases import Case

from offnominal.core.detections import Detection
from offnominal.core.errors import BadSource, NoDecisionError
from offnominal.decide import BestF1, Conformal, Contamination, Fixed, Quantile
from offnominal.detector import Detector


def _test(case: Case) -> list[Any]:
    return case.world.normals(8, name="other") + case.world.defects(8)[0]


def test_calibrate_replaces_the_decision_only(case: Case, fitted: Detector) -> None:
    items = _test(case)
    before, old = fitted.anomaly_score(items), fitted.decision_
    assert fitted.calibrate(case.world.normals(30, name="fresh"), decision=Conformal(0.05)) is fitted
    assert fitted.decision_ is not old
    np.testing.assert_array_equal(fitted.anomaly_score(items), before)


@pytest.mark.parametrize(
    "decision",
    [Conformal(0.1), Quantile(0.1), Contamination(0.1), Fixed(threshold=0.5)],
    ids=lambda decision: decision.name,
)
def test_every_decision_gives_verdicts_and_survives_saving(
    case: Case, fitted: Detector, decision: Any, tmp_path: Any
) -> None:
    import offnominal as off

    fitted.calibrate(case.world.normals(30, name="fresh"), decision=type(decision)(**decision.get_params()))
    verdicts = fitted.predict(_test(case))
    assert set(verdicts.tolist()) <= {0, 1}
    fitted.save(tmp_path / "model")
    again = off.load(tmp_path / "model")
    assert again.decision_ is not None
    assert again.decision_.name == decision.name
    assert again.decision_.get_params() == decision.get_params()
    np.testing.assert_array_equal(again.predict(_test(case)), verdicts)


def test_labels_reach_the_decision(case: Case, fitted: Detector) -> None:
    items = _test(case)
    labels = [0] * 8 + [1] * 8
    fitted.calibrate(items, labels, BestF1())
    assert (fitted.predict(items) == labels).mean() > 0.8
    by_source = case.world.source(items, labels=labels)
    fitted.calibrate(by_source, decision=Conformal(0.1))
    assert fitted.decision_ is not None
    assert fitted.decision_.report()["n"] == 8


def test_normals_of_the_fit_calibrate_the_default(case: Case) -> None:
    detector = case.make().fit(case.world.normals(24))
    assert detector.decision_ is not None
    report = detector.decision_.report()
    assert (report["decision"], report["asked_false_alarm_rate"], report["n"]) == ("conformal", 0.01, 24)


def test_p_values_are_the_ranks_of_the_scores(case: Case, fitted: Detector) -> None:
    fresh = case.world.normals(24, name="fresh")
    fitted.calibrate(fresh, decision=Conformal(0.1))
    normal = fitted.anomaly_score(fresh)
    found = fitted.detect(_test(case)).collect()
    expected = [(1 + (normal >= score).sum()) / 25 for score in found.scores]
    np.testing.assert_allclose(found.p_values, expected)
    assert [entry.anomalous for entry in found] == [p <= 0.1 for p in expected]
    assert {entry.basis for entry in found} == {"rank"}
    np.testing.assert_array_equal(fitted.predict(_test(case)), [int(entry.anomalous or 0) for entry in found])


def test_under_twenty_normals_there_is_no_verdict(case: Case, fitted: Detector) -> None:
    fitted.calibrate(case.world.normals(19, name="fresh"))
    with pytest.raises(NoDecisionError, match="20"):
        fitted.predict(_test(case))
    for found in fitted.detect(_test(case)):
        assert (found.p_value, found.basis, found.anomalous) == (None, None, None)


def test_too_few_normals_for_the_rate_give_a_p_value_and_no_verdict(case: Case, fitted: Detector) -> None:
    fitted.calibrate(case.world.normals(24, name="fresh"), decision=Conformal(0.01))
    with pytest.raises(NoDecisionError):
        fitted.predict(_test(case))
    assert all(found.p_value is not None and found.anomalous is None for found in fitted.detect(_test(case)))


def test_products_are_calibrated_each_by_itself(case: Case) -> None:
    world = case.world
    plain = world.normals(25)
    dark = [item // 2 for item in world.normals(25, name="dark")]
    products = ["plain"] * 25 + ["dark"] * 25
    detector = case.make().fit(world.source([*plain, *dark], products=products), decision=Conformal(0.1))
    assert detector.decision_ is not None
    report = detector.decision_.report()
    assert {name: entry["n"] for name, entry in report["products"].items()} == {"plain": 25, "dark": 25}
    assert {entry["judged_by"] for entry in report["products"].values()} == {"own"}
    test = world.source([plain[0], plain[0]], products=["plain", "dark"])
    one, two = detector.detect(test)
    assert one.score == pytest.approx(two.score, rel=1e-5)
    assert (one.product, two.product) == ("plain", "dark")
    scores, _ = np.split(detector.fit_score(world.source([*plain, *dark], products=products)), 2)
    assert len(scores) == 25


def test_p_value_of_a_product_is_that_of_its_own_normals(case: Case, fitted: Detector) -> None:
    world = case.world
    calm, odd = world.normals(22, name="calm"), world.defects(22)[0]
    source = world.source([*calm, *odd], products=["calm"] * 22 + ["odd"] * 22)
    fitted.calibrate(source, decision=Conformal(0.1))
    probe = world.picture("defect", 40, defect=True)[0]
    as_calm, as_odd = fitted.detect(world.source([probe, probe], products=["calm", "odd"]))
    assert as_calm.anomalous
    assert as_calm.p_value is not None
    assert as_odd.p_value is not None
    assert as_odd.p_value > as_calm.p_value


def test_bad_items_have_their_error_and_the_run_goes_on(case: Case, fitted: Detector) -> None:
    items = _test(case)[:6]
    broken = case.world.broken()
    mixed = [broken, *items[:3], broken, broken, *items[3:], broken]
    records = list(fitted.detect(mixed))
    assert [record.item for record in records] == [str(i) for i in range(10)]
    assert [record.error is not None for record in records] == [item is broken for item in mixed]
    for record in records:
        if record.error is not None:
            assert (record.score, record.p_value, record.basis, record.anomalous) == (None,) * 4
            assert record.map is None
    scores = [record.score for record in records if record.score is not None]
    np.testing.assert_allclose(scores, fitted.anomaly_score(items), rtol=1e-5)


def test_nothing_but_bad_items(case: Case, fitted: Detector) -> None:
    records = fitted.detect([case.world.broken()] * 20).collect()
    assert len(records) == 20
    assert len(records.errors) == 20
    assert np.isnan(records.scores).all()
    assert len(records.control_fdr(0.1)) == 20


def test_detect_is_one_pass_and_lazy(case: Case, fitted: Detector) -> None:
    source = case.world.source(_test(case) * 20)
    read = []
    real = source.read

    class Counting:
        name, modality = source.name, source.modality
        references = source.references
        subset, mask = source.subset, source.mask

        def __len__(self) -> int:
            return len(source)

        def read(self, position: int) -> Any:
            read.append(position)
            return real(position)

    found = fitted.detect(Counting())
    assert iter(found) is found
    first = next(found)
    assert first.item == "0"
    assert len(read) < len(source) / 2, "one record costs about one batch"
    assert len(found.collect()) == len(source) - 1
    assert list(found) == []
    assert sorted(read) == list(range(len(source)))


def test_records_become_lines_and_come_back(case: Case, fitted: Detector) -> None:
    for record in fitted.detect([*_test(case)[-4:], case.world.broken()]):
        line = json.loads(json.dumps(record.to_json(), allow_nan=False))
        assert set(line) >= {
            "item", "source", "index", "score", "p_value", "basis", "anomalous", "regions", "map", "error",
        }  # fmt: skip
        again = Detection.from_json(line)
        assert again.to_json() == record.to_json()


def test_source_of_another_modality_is_refused(case: Case, fitted: Detector) -> None:
    class Other:
        name, modality = "sound", "nothing we know"
        references: tuple[Any, ...] = ()

        def __len__(self) -> int:
            return 0

        def read(self, position: int) -> Any: ...

        def mask(self, position: int) -> Any: ...

        def subset(self, positions: Any) -> Any: ...

    with pytest.raises(BadSource, match="modality"):
        fitted.anomaly_score(Other())
