from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cases import DETECTORS, EXCLUDED, Case

import offnominal as off
from offnominal.decide import Conformal
from offnominal.detector import Detector

NORMALS = 24


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``case`` runs on every detector, except where `cases.EXCLUDED` says why not.

    Those that train a model of their own, instead of taking the one that is shared, are slow.
    """
    if "case" not in metafunc.fixturenames:
        return
    wanted: list[Case] = [case for case in DETECTORS if _applies(metafunc, case)]
    parameters = []
    for case in wanted:
        reason = EXCLUDED.get((case.card.name, metafunc.function.__name__))
        marks = [pytest.mark.skip(reason=reason)] if reason else []
        if case.card.trains and not {"fitted", "folder"} & set(metafunc.fixturenames):
            marks.append(pytest.mark.slow)
        parameters.append(pytest.param(case, id=str(case), marks=marks))
    metafunc.parametrize("case", parameters)


def _applies(metafunc: pytest.Metafunc, case: Case) -> bool:
    """Whether the test's ``card`` marker (facts of the card) holds."""
    for marker in metafunc.definition.iter_markers("card"):
        if any(getattr(case.card, fact) != value for fact, value in marker.kwargs.items()):
            return False
    return True


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "card(fact=value): contract test for detectors whose card says so")


@pytest.fixture(scope="session")
def _models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"": tmp_path_factory.mktemp("models")}


@pytest.fixture
def folder(case: Case, _models: dict[str, Path]) -> Path:
    """A saved model of the case, fitted on 24 normals, verdicts at a rate of 0.1. Not to be written to."""
    if str(case) not in _models:
        detector = case.make().fit(case.world.normals(NORMALS), decision=Conformal(0.1))
        detector.save(_models[""] / str(case))
        _models[str(case)] = _models[""] / str(case)
    return _models[str(case)]


@pytest.fixture
def fitted(folder: Path) -> Detector:
    """The saved model, loaded afresh."""
    return off.load(folder)


@pytest.fixture
def frozen() -> Iterator[Callable[[Any], None]]:
    """Make arrays read-only, so that whoever writes to its input fails."""
    arrays = []

    def freeze(items: Any) -> None:
        for item in items:
            item.setflags(write=False)
            arrays.append(item)

    yield freeze
    for array in arrays:
        array.setflags(write=True)
