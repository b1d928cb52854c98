from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys

import numpy as np
import pytest
from cases import DETECTORS, EXCLUDED, MODALITIES, PARAMETERS, Case

import offnominal as off
from offnominal.detector import Detector

FINAL = [name for name, member in vars(Detector).items() if getattr(member, "__final__", False)]


def test_committed_index_is_what_the_source_says() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "offnominal.core", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_detector_of_the_catalogue_is_tried() -> None:
    cards = [card for card in off.catalogue() if card.kind == "detector"]
    assert len(cards) == len(DETECTORS) >= 5
    assert {card.modality for card in cards} <= set(MODALITIES), "write a class of items for the new modality"
    names = {card.name for card in cards}
    assert set(PARAMETERS) <= names
    assert {name for name, _ in EXCLUDED} <= names
    assert all(len(reason) > 10 for reason in EXCLUDED.values())


def test_public_methods_are_marked_final() -> None:
    promised = {
        "fit", "fit_score", "partial_fit", "merge", "calibrate", "anomaly_score", "anomaly_map", "predict",
        "detect", "save", "get_params", "set_params", "clone",
    }  # fmt: skip
    assert promised <= set(FINAL)


def test_module_and_class_are_what_the_card_says(case: Case) -> None:
    cls = getattr(importlib.import_module(case.card.module), case.card.qualname)
    assert issubclass(cls, Detector)
    assert cls.card == case.card


def test_card_facts_have_their_form(case: Case) -> None:
    card = case.card
    assert re.fullmatch(r"[a-z][a-z0-9_]*", card.name)
    assert card.row is None or re.fullmatch(r"S\d{3}", card.row)
    assert card.row is None or 1 <= int(card.row[1:]) <= 154
    assert card.url.startswith("https://")
    assert 1900 < card.year <= 2030
    assert len(card.title) > 10
    assert card.summary.endswith(".")
    assert card.setting


def test_public_methods_are_not_overridden(case: Case) -> None:
    cls = type(case.make())
    for name in FINAL:
        assert getattr(cls, name) is getattr(Detector, name), f"{cls.__name__} overrides {name}"


def test_public_attributes_are_parameters_or_learned(case: Case, fitted: Detector) -> None:
    inherited = set(dir(Detector)) | set(fitted.get_params())
    extra = [name for name in vars(fitted) if not name.startswith("_") and not name.endswith("_")]
    assert set(extra) <= inherited


def test_streams_as_the_card_says(case: Case, fitted: Detector) -> None:
    hooks = ("_begin", "_absorb", "_merge", "_finish", "_resume", "_pause", "_unpause")
    own = [name for name in hooks if getattr(type(fitted), name) is not getattr(Detector, name)]
    assert case.card.streams == bool(own)
    if case.card.streams:
        assert set(own) == set(hooks), f"{set(hooks) - set(own)} missing: it could not resume or merge"
        return
    with pytest.raises(TypeError, match="streams"):
        fitted.partial_fit(case.world.normals(1))
    with pytest.raises(TypeError, match="streams"):
        fitted.merge(fitted.clone())


def test_localises_as_the_card_says(case: Case, fitted: Detector) -> None:
    items, _ = case.world.defects(2)
    if not case.card.localises:
        with pytest.raises(TypeError, match="localises"):
            fitted.anomaly_map(items)
        assert all(found.map is None and not found.regions for found in fitted.detect(items))
        return
    maps = fitted.anomaly_map(items)
    assert len(maps) == 2
    for item, found in zip(items, maps, strict=True):
        assert found.dtype == np.float32
        assert found.shape == case.world.extent(item)
        assert np.isfinite(found).all()
        assert np.ptp(found) > 0


@pytest.mark.card(localises=True)
def test_maps_are_a_sequence(case: Case, fitted: Detector) -> None:
    items = case.world.normals(4, name="other")
    maps = fitted.anomaly_map(items)
    whole = list(maps)
    np.testing.assert_allclose(maps[1], whole[1], rtol=1e-5)
    np.testing.assert_allclose(maps[-1], whole[3], rtol=1e-5)
    np.testing.assert_allclose(maps[1:3][1], whole[2], rtol=1e-5)
    assert len(maps[1:3]) == 2
    with pytest.raises(IndexError):
        maps[4]


@pytest.mark.card(localises=True)
def test_record_carries_the_map_and_its_places(case: Case, fitted: Detector) -> None:
    items, _ = case.world.defects(3)
    maps = fitted.anomaly_map(items)
    for place, found in zip(maps, fitted.detect(items), strict=True):
        assert found.map is not None
        np.testing.assert_allclose(found.map, place, rtol=1e-4)
        assert found.regions, "a planted defect stands out of the map"
        assert found.regions[0].score == pytest.approx(found.map.max(), rel=1e-5)
    assert all(found.map is None and not found.regions for found in fitted.detect(items, maps=False))


# -------------------------------------------------------------------------------- parameters


def test_constructor_stores_arguments_unchanged(case: Case) -> None:
    parameters = case.parameters
    detector = case.make()
    for name, value in parameters.items():
        assert getattr(detector, name) is value
    assert list(detector.get_params()) == list(inspect.signature(type(detector)).parameters)
    assert not [name for name in vars(detector) if name.endswith("_")], "learned before fit"


def test_set_params_and_clone(case: Case, fitted: Detector) -> None:
    twin = fitted.clone()
    assert twin.get_params() == fitted.get_params()
    assert not twin.fitted_
    assert twin.set_params(seed=5) is twin
    assert twin.seed == 5
    assert fitted.seed == 0
    with pytest.raises(ValueError, match="no parameter 'sede'"):
        twin.set_params(sede=1)
    with pytest.raises(TypeError, match="no parameter sede"):
        off.make(case.card.name, case.card.modality, sede=1)


def test_repr_is_the_call_that_makes_it(case: Case) -> None:
    detector = case.make()
    call = ast.parse(repr(detector), mode="eval").body
    assert isinstance(call, ast.Call)
    assert ast.unparse(call.func) == type(detector).__name__
    again = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    assert again == detector.get_params()


def test_unknown_names_suggest_near_ones() -> None:
    with pytest.raises(off.core.card.UnknownName, match="patchcore"):
        off.make("pachcore")
