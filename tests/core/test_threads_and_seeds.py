from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offnominal.core.seeds import generator
from offnominal.core.threads import _container_quota, blas_threads, budget


def test_budget_is_what_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFNOMINAL_THREADS", "3")
    assert budget() == 3


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", " 2", "²"])
def test_budget_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OFFNOMINAL_THREADS", value)
    with pytest.raises(ValueError, match=r"OFFNOMINAL_THREADS=.*positive whole number"):
        budget()


def test_budget_never_exceeds_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OFFNOMINAL_THREADS", raising=False)
    assert 1 <= budget() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("quota", "allowed", "expected"),
    [(math.inf, 4, 4), (2.0, 4, 2), (2.9, 4, 2), (0.5, 4, 1), (8.0, 4, 4)],
)
def test_budget_in_a_container(
    monkeypatch: pytest.MonkeyPatch, quota: float, allowed: int, expected: int
) -> None:
    monkeypatch.delenv("OFFNOMINAL_THREADS", raising=False)
    monkeypatch.setattr("offnominal.core.threads._container_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)), raising=False)
    assert budget() == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"cpu.max": "nonsense\n"}, math.inf),
        ({}, math.inf),
    ],
)
def test_container_quota(tmp_path: Path, files: dict[str, str], expected: float) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert _container_quota(tmp_path) == expected


def test_blas_is_held_to_the_count_and_released() -> None:
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))
    before = [pool["num_threads"] for pool in threadpool_info()]
    with blas_threads(1):
        assert {pool["num_threads"] for pool in threadpool_info()} <= {1}
    assert [pool["num_threads"] for pool in threadpool_info()] == before


def test_streams_of_other_names_are_independent() -> None:
    one, two = generator(0, "a", "b").normal(size=2000), generator(0, "a", "c").normal(size=2000)
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.1
    np.testing.assert_array_equal(one, generator(0, "a", "b").normal(size=2000))
    assert not np.array_equal(one, generator(1, "a", "b").normal(size=2000))


def test_numbers_drawn_never_change() -> None:
    """Fixed for ever: models and splits of earlier versions rest on them."""
    assert generator(0, "split", "folds").integers(0, 1000, 4).tolist() == FIXED


FIXED = [669, 986, 916, 148]


@given(st.integers(0, 2**80), st.lists(st.text(max_size=5), max_size=3))
def test_any_seed_and_names(seed: int, names: list[str]) -> None:
    assert generator(seed, *names).random() == generator(seed, *names).random()


def test_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        generator(-1)
