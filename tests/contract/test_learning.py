from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import BRIEFLY_TRAINED, Case

from offnominal.core.errors import BadItems, BadSource, NoDecisionError, OffnominalError
from offnominal.decide import Conformal, Fixed
from offnominal.detector import Detector
from offnominal.metrics import auroc


def _try(case: Case) -> tuple[list[Any], list[int]]:
    normal, off_ones = case.world.normals(20, name="other"), case.world.defects(20)[0]
    return [*normal, *off_ones], [0] * 20 + [1] * 20


def _learned(detector: Detector) -> dict[str, Any]:
    from offnominal.persistence import to_state

    return to_state(detector)[1]


# -------------------------------------------------------------------------------- fit


def test_fit_returns_itself_and_can_be_repeated(case: Case) -> None:
    items, test = case.world.normals(10), _try(case)[0]
    detector = case.make()
    assert detector.fit(items) is detector
    first = detector.anomaly_score(test)
    np.testing.assert_allclose(detector.fit(items).anomaly_score(test), first, rtol=1e-6)


def test_second_fit_forgets_the_first(case: Case) -> None:
    one, two, test = case.world.normals(8), case.world.normals(8, name="lot two"), _try(case)[0]
    direct = case.make().fit(two)
    again = case.make().fit(one).fit(two)
    np.testing.assert_allclose(again.anomaly_score(test), direct.anomaly_score(test), rtol=1e-6)
    assert set(vars(again)) == set(vars(direct))


def test_same_seed_same_model(case: Case) -> None:
    items = case.world.normals(10)
    one, two = case.make(seed=3).fit(items), case.make(seed=3).fit(items)
    mine, yours = _learned(one), _learned(two)
    assert mine.keys() == yours.keys()
    for name, array in mine.items():
        np.testing.assert_array_equal(array, yours[name], err_msg=name)
    np.testing.assert_array_equal(one.fit_score(items), two.fit_score(items))


def test_failed_fit_leaves_no_half_model(case: Case) -> None:
    detector = case.make().fit(case.world.normals(6))
    with pytest.raises(BadItems):
        detector.fit([*case.world.normals(4), case.world.broken()])
    assert not detector.fitted_
    with pytest.raises(OffnominalError):
        detector.save("never written")


@pytest.mark.card(supervision="normal-only")
def test_items_labelled_anomalous_are_not_learned(case: Case) -> None:
    normal, off_ones = case.world.normals(10), case.world.defects(4)[0]
    mixed = [*normal, *off_ones]
    labels = [0] * 10 + [1] * 4
    test = _try(case)[0]
    clean = case.make().fit(normal).anomaly_score(test)
    np.testing.assert_allclose(case.make().fit(mixed, labels).anomaly_score(test), clean, rtol=1e-5)
    source = case.world.source(mixed, labels=labels)
    np.testing.assert_allclose(case.make().fit(source).anomaly_score(test), clean, rtol=1e-5)
    if case.card.streams:
        partial = case.make().partial_fit(source)
        assert partial.anomaly_score(off_ones).min() > partial.anomaly_score(normal).max()


@pytest.mark.parametrize("labels", [[0], [0, 0, 2], [[0, 0, 0]]])
def test_labels_of_another_form_are_refused(case: Case, labels: Any) -> None:
    with pytest.raises(ValueError, match="labels"):
        case.make().fit(case.world.normals(3), labels)


def test_bad_items_stop_a_fit_or_are_passed_over_as_asked(case: Case) -> None:
    good, bad = case.world.normals(8), case.world.broken()
    mixed = [bad, *good[:4], bad, *good[4:]]
    with pytest.raises(BadItems) as caught:
        case.make().fit(mixed)
    assert [entry.item for entry in caught.value.items] == ["0", "5"]
    test = _try(case)[0]
    skipping = case.make().fit(case.world.source(mixed, on_bad="skip"))
    np.testing.assert_allclose(
        np.argsort(skipping.anomaly_score(test)),
        np.argsort(case.make().fit(good).anomaly_score(test)),
        atol=3,
    )
    if case.card.streams:
        with pytest.raises(BadItems):
            case.make().partial_fit(mixed)
        case.make().partial_fit(case.world.source(mixed, on_bad="skip")).anomaly_score(test)


# -------------------------------------------------------------------------------- fit_score


def test_fit_score_leaves_an_item_out_of_its_own_neighbours(case: Case) -> None:
    outlier = case.world.defects(1)[0][0]
    items = [*case.world.normals(15), outlier]
    detector = case.make()
    left_out = detector.fit_score(items)
    assert left_out.shape == (16,)
    assert left_out.argmax() == 15
    in_sample = detector.anomaly_score(items)
    assert left_out[15] > 1.05 * in_sample[15]


@pytest.mark.parametrize("name", ["patchcore", "embedding_knn"])
def test_duplicated_outlier_is_not_its_own_neighbour(name: str) -> None:
    from cases import DETECTORS

    case = next(case for case in DETECTORS if case.card.name == name)
    outlier = case.world.defects(1)[0][0]
    items = [*case.world.normals(20), outlier, outlier.copy()]
    scores = case.make().fit_score(items)
    assert min(scores[-2:]) > max(scores[:-2]), "near-duplicates stay in one fold"


def test_groups_of_the_source_stay_together(case: Case) -> None:
    outlier = case.world.defects(2)[0]
    items = [*case.world.normals(14), *outlier]
    grouped = case.world.source(items, groups=[*map(str, range(14)), "odd", "odd"])
    scores = case.make().fit_score(grouped)
    assert min(scores[-2:]) > max(scores[:-2])


def test_fit_score_and_fit_learn_the_same(case: Case) -> None:
    items, test = case.world.normals(10), _try(case)[0]
    one = case.make()
    one.fit_score(items)
    np.testing.assert_allclose(one.anomaly_score(test), case.make().fit(items).anomaly_score(test), rtol=1e-5)


# -------------------------------------------------------------------------------- pieces


@pytest.mark.card(streams=True)
def test_shards_merge_to_the_whole(case: Case) -> None:
    items, test = case.world.normals(16), _try(case)[0]
    whole = case.make().fit(items).anomaly_score(test)
    one, two = case.make().fit(items[:7]), case.make().fit(items[7:])
    assert one.merge(two) is one
    np.testing.assert_allclose(one.anomaly_score(test), whole, rtol=1e-4)


@pytest.mark.card(streams=True)
def test_merged_model_is_as_good_as_the_whole(case: Case) -> None:
    items, (test, labels) = case.world.normals(24), _try(case)
    whole = auroc(labels, case.make().fit(items).anomaly_score(test))
    shards = [case.make().fit(items[first : first + 8]) for first in (0, 8, 16)]
    merged = shards[0].merge(shards[1].merge(shards[2]))
    assert auroc(labels, merged.anomaly_score(test)) > whole - 0.03


@pytest.mark.card(streams=True)
def test_merge_leaves_the_other_as_it_was(case: Case) -> None:
    test = _try(case)[0]
    one, two = case.make().fit(case.world.normals(6)), case.make().fit(case.world.normals(6, name="lot two"))
    before = two.anomaly_score(test)
    one.merge(two)
    np.testing.assert_array_equal(two.anomaly_score(test), before)
    assert two.decision_ is not None


@pytest.mark.card(streams=True)
def test_merge_of_what_does_not_fit_is_refused(case: Case, fitted: Detector) -> None:
    with pytest.raises(ValueError, match="cannot be merged"):
        fitted.merge(case.make(seed=9).fit(case.world.normals(4)))
    with pytest.raises(OffnominalError, match="not fitted"):
        fitted.merge(fitted.clone())


@pytest.mark.card(streams=True)
def test_partial_fit_teaches_and_drops_the_decision(case: Case) -> None:
    world = case.world
    old, new = world.normals(12), [item[::-1].copy() for item in world.normals(12, name="turned")]
    probe = [item[::-1].copy() for item in world.normals(6, name="turned probe")]
    detector = case.make().fit(old, decision=Conformal(0.2))
    strange = detector.anomaly_score(probe)
    assert detector.partial_fit(new) is detector
    assert detector.anomaly_score(probe).mean() < 0.9 * strange.mean(), "nothing was learned"
    assert detector.decision_ is None
    for found in detector.detect(probe):
        assert (found.p_value, found.basis, found.anomalous) == (None, None, None)
        assert found.score is not None
    with pytest.raises(NoDecisionError, match="calibrate"):
        detector.predict(probe)
    detector.calibrate(world.normals(24, name="fresh"), decision=Conformal(0.2))
    assert all(found.basis == "rank" for found in detector.detect(probe))


@pytest.mark.card(streams=True)
def test_merge_drops_the_decision(case: Case) -> None:
    one, two = case.make().fit(case.world.normals(6)), case.make().fit(case.world.normals(6, name="lot two"))
    assert one.merge(two).decision_ is None
    with pytest.raises(NoDecisionError, match="calibrate"):
        one.predict(case.world.normals(1))


@pytest.mark.card(streams=True)
def test_partial_fit_from_nothing_in_pieces(case: Case) -> None:
    items, (test, labels) = case.world.normals(16), _try(case)
    pieces = case.make().partial_fit(items[:6]).partial_fit(items[6:11]).partial_fit(items[11:])
    whole = case.make().fit(items)
    assert auroc(labels, pieces.anomaly_score(test)) > auroc(labels, whole.anomaly_score(test)) - 0.03


@pytest.mark.card(streams=True)
def test_partial_fit_after_reload_goes_on(case: Case, tmp_path: Any) -> None:
    import offnominal as off

    items, test = case.world.normals(14), _try(case)[0]
    detector = case.make().fit(items[:8])
    detector.save(tmp_path / "model")
    again = off.load(tmp_path / "model").partial_fit(items[8:])
    direct = detector.partial_fit(items[8:])
    np.testing.assert_allclose(again.anomaly_score(test), direct.anomaly_score(test), rtol=1e-5)


@pytest.mark.card(streams=True)
def test_interrupted_partial_fit_changes_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = case.make().fit(case.world.normals(8))
    detector.batch_size = 4  # type: ignore[misc]
    test, learned = _try(case)[0], {k: v.copy() for k, v in _learned(detector).items()}
    before = detector.anomaly_score(test)
    absorb, calls = type(detector)._absorb, []

    def interrupted(self: Detector, batch: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        absorb(self, batch)

    monkeypatch.setattr(type(detector), "_absorb", interrupted)
    with pytest.raises(KeyboardInterrupt):
        detector.partial_fit(case.world.defects(12)[0])
    assert len(calls) == 2
    np.testing.assert_array_equal(detector.anomaly_score(test), before)
    for name, array in _learned(detector).items():
        np.testing.assert_array_equal(array, learned[name], err_msg=name)
    assert detector.decision_ is not None


# -------------------------------------------------------------------------------- few, alike, empty


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_few_normals(case: Case, count: int) -> None:
    detector = case.make()
    test, labels = _try(case)
    if count < detector.least_items:
        assert "few-shot" not in case.card.setting
        with pytest.raises(BadSource, match=f"{count} usable item.*at least {detector.least_items}"):
            detector.fit(case.world.normals(count))
        return
    detector.fit(case.world.normals(count))
    scores = detector.anomaly_score(test)
    assert np.isfinite(scores).all()
    if "few-shot" in case.card.setting:
        assert auroc(labels, scores) > 0.7
    with pytest.raises(NoDecisionError):
        detector.predict(test)
    assert all(found.anomalous is None and found.p_value is None for found in detector.detect(test[:3]))


@pytest.mark.parametrize("kind", ["constant", "identical"])
@pytest.mark.parametrize("count", [1, 3, 12])
def test_items_without_variety(case: Case, kind: str, count: int) -> None:
    item = case.world.constant() if kind == "constant" else case.world.normals(1)[0]
    detector = case.make()
    items = [item.copy() for _ in range(count)]
    if count < detector.least_items:
        with pytest.raises(BadSource, match="at least"):
            detector.fit(items)
        return
    detector.fit(items)
    others, labels = _try(case)
    test = [item, case.world.constant(), *others]
    scores = detector.anomaly_score(test)
    assert np.isfinite(scores).all()
    from_whom = scores[2:][np.array(labels) == 1] if case.card.name in BRIEFLY_TRAINED else scores[2:]
    assert scores[0] <= from_whom.min()
    if case.card.localises:
        assert all(np.isfinite(place).all() for place in detector.anomaly_map(test[:2]))
    assert all(found.error is None for found in detector.detect(test[:2]))


def test_decision_can_be_given(case: Case) -> None:
    detector = case.make().fit(case.world.normals(6), decision=Fixed(threshold=-1.0))
    assert (detector.predict(case.world.normals(3)) == 1).all()
    assert {found.basis for found in detector.detect(case.world.normals(3))} == {"declared"}
