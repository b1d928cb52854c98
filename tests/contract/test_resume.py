"""A fit that was killed goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case

from offnominal.detector import Detector

pytestmark = pytest.mark.card(streams=True)
Absorbed = Callable[..., tuple[int, bool]]


@pytest.fixture
def absorb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Absorbed]:
    """Fit, killed at the ``stop``-th batch; returns how many batches were learned, and whether it ended."""

    def run(detector: Detector, items: Any, checkpoint: Path, *, stop: int | None = None) -> tuple[int, bool]:
        real, calls = type(detector)._absorb, []

        def counted(self: Detector, batch: Any) -> None:
            if stop is not None and len(calls) == stop:
                raise KeyboardInterrupt
            calls.append(1)
            real(self, batch)

        with monkeypatch.context() as patched:
            patched.setattr(type(detector), "_absorb", counted)
            try:
                detector.fit(items, checkpoint=checkpoint)
            except KeyboardInterrupt:
                return len(calls), False
        return len(calls), True

    return run


def test_killed_fit_skips_what_it_had_learned(case: Case, tmp_path: Path, absorb: Absorbed) -> None:
    items, place = case.world.normals(10), tmp_path / "progress"
    assert absorb(case.make(), items, tmp_path / "other") == (5, True), "five folds of one batch each"
    assert absorb(case.make(), items, place, stop=2) == (2, False)
    assert len(list(place.rglob("*.safetensors"))) == 2
    detector = case.make()
    assert absorb(detector, items, place) == (3, True)
    assert not place.exists(), "emptied when done"
    straight, test = case.make().fit(items), case.world.defects(4)[0]
    np.testing.assert_allclose(detector.anomaly_score(test), straight.anomaly_score(test), rtol=1e-6)
    assert detector.decision_ is not None
    assert straight.decision_ is not None
    mine, yours = detector.decision_.state(), straight.decision_.state()
    np.testing.assert_allclose(mine["scores"], yours["scores"], rtol=1e-6)


def test_other_parameters_or_items_start_afresh(case: Case, tmp_path: Path, absorb: Absorbed) -> None:
    items = case.world.normals(10)
    assert absorb(case.make(), items, tmp_path, stop=2) == (2, False)
    assert absorb(case.make(seed=1), items, tmp_path) == (5, True)
    assert absorb(case.make(), items[:-1], tmp_path) == (5, True)
    assert absorb(case.make(), [*items[:-1], case.world.defects(1)[0][0]], tmp_path) == (5, True)
    assert absorb(case.make(), items, tmp_path) == (3, True)


def test_damaged_part_is_learned_again(case: Case, tmp_path: Path, absorb: Absorbed) -> None:
    items = case.world.normals(10)
    assert absorb(case.make(), items, tmp_path, stop=3) == (3, False)
    one, two, _ = sorted(tmp_path.rglob("*.safetensors"))
    one.write_bytes(one.read_bytes()[: one.stat().st_size // 2])
    two.write_bytes(b"")
    detector = case.make()
    assert absorb(detector, items, tmp_path) == (4, True)
    test = case.world.defects(4)[0]
    np.testing.assert_allclose(
        detector.anomaly_score(test), case.make().fit(items).anomaly_score(test), rtol=1e-6
    )


def test_foreign_files_beside_a_checkpoint_stay(case: Case, tmp_path: Path, absorb: Absorbed) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert absorb(case.make(), case.world.normals(10), tmp_path) == (5, True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]
