"""The search is exact in every precision, and a query's result is its own."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from offnominal.core.errors import ExtraMissing
from offnominal.normality import NearestRows
from offnominal.normality.products import to_bf16


def features(n, width, seed=0):
    """Rectified mixtures with a little noise, away from the origin: much like patch features."""
    draw = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((12, width))
    rows = np.maximum(draw.standard_normal((n, 12)) @ mixing, 0) + 0.05 * draw.standard_normal((n, width))
    return (rows + 10).astype(np.float32)


def reference(queries, bank, k):
    distances = cdist(queries.astype(np.float64), bank.astype(np.float64))
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), order


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16"])
@pytest.mark.parametrize(
    ("rows", "width", "k"), [(3000, 200, 1), (3000, 200, 9), (20_000, 48, 3), (300, 7, 100)]
)
def test_exact(rows, width, k, precision):
    bank, queries = features(rows, width), features(700, width, seed=1)
    distances, indices = NearestRows(bank, precision=precision).search(queries, k)
    want, order = reference(queries, bank, k)
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_allclose(distances, want, rtol=2e-6)
    assert distances.dtype == np.float32
    assert indices.dtype == np.int64


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 80), st.integers(1, 6), st.integers(1, 40), st.integers(0, 99), st.floats(0, 1000))
def test_exact_with_ties_and_copies(rows, width, count, seed, away):
    draw = np.random.default_rng(seed)
    bank = draw.integers(0, 4, (rows, width)).astype(np.float32) + np.float32(round(away))
    queries = draw.integers(0, 4, (count, width)).astype(np.float32) + np.float32(round(away))
    k = int(draw.integers(1, rows + 1))
    distances, indices = NearestRows(bank).search(queries, k)
    want, order = reference(queries, bank, k)
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_allclose(distances, want, rtol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_bank_row_is_at_distance_zero_to_itself(precision):
    bank = features(3000, 128)
    distances, indices = NearestRows(bank, precision=precision).search(bank)
    assert (distances == 0).all()
    np.testing.assert_array_equal(indices[:, 0], np.arange(3000))


def test_a_far_outlier_in_the_bank_hides_nothing():
    bank = features(3000, 128)
    bank[17] = 1e6
    queries = features(200, 128, seed=1)
    np.testing.assert_array_equal(NearestRows(bank).search(queries, 2)[1], reference(queries, bank, 2)[1])


def test_result_does_not_depend_on_batch_threads_or_precision():
    bank, queries = features(4000, 150), features(1100, 150, seed=1)
    whole = NearestRows(bank, precision="bf16", threads=2).search(queries, 4)
    other = NearestRows(bank, precision="fp32", threads=1)
    for part in (slice(0, 1), slice(510, 515), slice(1000, 1100)):
        for got, want in zip(other.search(queries[part], 4), whole, strict=True):
            np.testing.assert_array_equal(got, want[part])


def test_works_without_the_compiled_runtime(monkeypatch):
    bank, queries = features(3000, 100), features(100, 100, seed=1)
    want = NearestRows(bank).search(queries, 3)
    monkeypatch.setitem(sys.modules, "openvino", None)
    got = NearestRows(bank).search(queries, 3)
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_array_equal(got[1], want[1])


def test_bank_neighbours_include_the_row_itself():
    bank = features(500, 20)
    around = NearestRows(bank).bank_neighbours(6)
    np.testing.assert_array_equal(around, reference(bank, bank, 6)[1])
    np.testing.assert_array_equal(around[:, 0], np.arange(500))


def test_queries_that_are_not_finite_have_no_neighbour():
    bank = features(100, 8)
    queries = features(4, 8, seed=1)
    queries[1, 3], queries[2, 0] = np.nan, np.inf
    distances, indices = NearestRows(bank).search(queries, 2)
    assert np.isnan(distances[1:3]).all()
    assert (indices[1:3] == -1).all()
    np.testing.assert_array_equal(indices[[0, 3]], reference(queries[[0, 3]], bank, 2)[1])


def test_no_queries():
    distances, indices = NearestRows(features(10, 3)).search(np.empty((0, 3), np.float32), 2)
    assert distances.shape == indices.shape == (0, 2)


@pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="needs the extra faiss")
def test_approximate_finds_nearly_all_and_measures_exactly():
    bank, queries = features(20_000, 32), features(500, 32, seed=1)
    search = NearestRows(bank, approximate=True)
    assert search.approximate
    distances, indices = search.search(queries, 2)
    order = reference(queries, bank, 2)[1]
    assert (indices[:, 0] == order[:, 0]).mean() > 0.95
    np.testing.assert_allclose(
        distances[:, 0], np.linalg.norm(queries - bank[indices[:, 0]], axis=1), rtol=1e-5
    )


def test_approximate_without_the_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ExtraMissing, match="faiss"):
        NearestRows(features(100, 4), approximate=True)
    assert not NearestRows(features(100, 4)).approximate


def test_refusals():
    search = NearestRows(features(10, 3))
    with pytest.raises(ValueError, match="shape"):
        search.search(np.ones((2, 4), np.float32))
    with pytest.raises(ValueError, match="between 1 and"):
        search.search(np.ones((2, 3), np.float32), 11)
    with pytest.raises(ValueError, match="precision"):
        NearestRows(features(10, 3), precision="int8")
    with pytest.raises(ValueError, match="finite"):
        NearestRows(np.full((2, 2), np.nan, np.float32))


def test_rounding_to_bf16_is_to_nearest_even():
    values = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -3.0], np.float32)
    np.testing.assert_array_equal(to_bf16(values), np.array([1, 1 + 2**-6, 1 + 2**-7, -3], np.float32))
