"""The lazy selection is the plain greedy loop; streaming keeps rows in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from offnominal.core.seeds import generator
from offnominal.normality import CoresetBuffer, RandomProjection, covering_radius, greedy_coreset


def plain_loop(rows, k, seed=0, projection=128, start=10):
    """One distance to every row a step, by differences in double precision."""
    points = RandomProjection(rows.shape[1], projection or rows.shape[1], seed=seed)(rows)
    points = (points - points.mean(axis=0, dtype=np.float64).astype(np.float32)).astype(np.float64)
    anchors = generator(seed, "coreset", "start").choice(len(rows), size=min(start, len(rows)), replace=False)
    distance = np.mean([np.linalg.norm(points - points[a], axis=1) for a in anchors], axis=0)
    chosen = []
    for _ in range(min(k, len(rows))):
        farthest = int(distance.argmax())
        if distance[farthest] <= 1e-6 * np.abs(points).max():
            break
        chosen.append(farthest)
        distance = np.minimum(distance, np.linalg.norm(points - points[farthest], axis=1))
        distance[farthest] = -1
    return np.array(chosen)


def mixture(n, width, seed=0, clusters=40):
    """Clusters of very different spread, far from the origin: much like patch features."""
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((clusters, width)) * 3
    spread = draw.gamma(1, 0.3, (n, 1))
    noise = draw.standard_normal((n, width))
    return (np.maximum(centres[draw.integers(0, clusters, n)] + spread * noise, 0) + 5).astype(np.float32)


KINDS = {
    "gaussian": lambda: np.random.default_rng(0).standard_normal((6000, 200), dtype=np.float32),
    "mixture": lambda: mixture(6000, 160),
    "narrow": lambda: mixture(6000, 5),
    "far from the origin": lambda: mixture(4000, 64) + np.float32(1000),
    "one outlier": lambda: np.vstack([mixture(3000, 64), np.full((1, 64), 1e5, np.float32)]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_same_rows_in_the_same_order_as_the_plain_loop(kind):
    rows = KINDS[kind]()
    np.testing.assert_array_equal(greedy_coreset(rows, 300), plain_loop(rows, 300))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 70), st.integers(0, 5))
def test_small_whole_numbers_with_many_ties(n, width, k, seed):
    """Ties are broken by the lower row, copies of a chosen row are never chosen."""
    rows = np.random.default_rng(seed).integers(0, 3, (n, width)).astype(np.float32)
    chosen = greedy_coreset(rows, k, seed=seed)
    assert len(chosen) == min(k, len(np.unique(rows, axis=0)))
    assert len(np.unique(rows[chosen], axis=0)) == len(chosen)
    # Each choice is a farthest row from those before it.
    for step in range(1, len(chosen)):
        anchored = cdist(rows, rows[chosen[:step]]).min(axis=1)
        start = generator(seed, "coreset", "start").choice(n, size=min(10, n), replace=False)
        anchored = np.minimum(anchored, cdist(rows, rows[start]).mean(axis=1))
        assert anchored[chosen[step]] == pytest.approx(anchored.max(), abs=1e-5)


def test_every_row_can_be_chosen():
    rows = mixture(700, 12)
    assert sorted(greedy_coreset(rows, 1000)) == list(range(700))


def test_copies_are_chosen_once():
    rows = np.repeat(mixture(50, 30), 100, axis=0)
    chosen = greedy_coreset(rows, 200)
    assert len(chosen) == 50
    assert covering_radius(rows, rows[chosen]) == 0


def test_does_not_depend_on_threads():
    rows = mixture(5000, 150, seed=3)
    with threadpool_limits(1):
        alone = greedy_coreset(rows, 400)
    with threadpool_limits(2):
        np.testing.assert_array_equal(greedy_coreset(rows, 400), alone)


def test_seed_chooses_and_inputs_stay():
    rows = mixture(2000, 200)
    before = rows.copy()
    assert (greedy_coreset(rows, 50, seed=1) == greedy_coreset(rows, 50, seed=1)).all()
    assert (greedy_coreset(rows, 50, seed=1) != greedy_coreset(rows, 50, seed=2)).any()
    np.testing.assert_array_equal(rows, before)


@pytest.mark.parametrize(
    ("rows", "k"),
    [(np.zeros((0, 3), np.float32), 1), (np.zeros(3, np.float32), 1), (np.ones((3, 3), np.float32), 0)],
)
def test_refuses_what_is_no_selection(rows, k):
    with pytest.raises(ValueError, match=r"coreset|positive"):
        greedy_coreset(rows, k)


def test_refuses_rows_that_are_not_finite():
    with pytest.raises(ValueError, match="finite"):
        greedy_coreset(np.array([[1.0, np.nan]], np.float32), 1)


def test_covering_radius_is_the_largest_nearest_distance():
    rows, centres = mixture(5000, 20), mixture(60, 20, seed=9)
    want = cdist(rows.astype(np.float64), centres.astype(np.float64)).min(axis=1).max()
    assert covering_radius(rows, centres) == pytest.approx(want, rel=1e-6)


def test_projection_keeps_distances():
    rows = mixture(60, 1000)
    before = cdist(rows, rows)[np.triu_indices(60, 1)]
    after = cdist(*[RandomProjection(1000, 128, seed=1)(rows)] * 2)[np.triu_indices(60, 1)]
    ratio = after / before
    assert abs(ratio.mean() - 1) < 0.05
    assert ratio.std() < 0.12
    np.testing.assert_array_equal(RandomProjection(20, 128)(rows[:, :20]), rows[:, :20])


def test_buffer_is_exact_while_everything_fits():
    rows = mixture(3000, 96)
    buffer = CoresetBuffer(rows.nbytes, 100, seed=4)
    for first in range(0, 3000, 700):
        buffer.absorb(rows[first : first + 700])
    assert (buffer.seen, buffer.reduced, len(buffer)) == (3000, False, 3000)
    np.testing.assert_array_equal(buffer.finish(), rows[greedy_coreset(rows, 100, seed=4)])


def test_buffers_merge_as_if_absorbed():
    rows = mixture(3000, 32)
    one = CoresetBuffer(2**30, 100).absorb(rows[:1000]).merge(CoresetBuffer(2**30, 100).absorb(rows[1000:]))
    np.testing.assert_array_equal(one.finish(), rows[greedy_coreset(rows, 100)])
    assert one.seen == 3000


@pytest.mark.parametrize("spread", [1, 5])
def test_streamed_radius_is_close_to_the_offline_one(spread):
    """A small budget, rows in an order that drifts: within 1.3 of the greedy radius on all rows."""
    rows = mixture(30_000, 64, seed=spread, clusters=8 * spread)
    rows = rows[np.argsort(rows[:, 0] + np.random.default_rng(0).normal(0, spread, len(rows)))]
    offline = covering_radius(rows, rows[greedy_coreset(rows, 200)])
    buffer = CoresetBuffer(1000 * 64 * 4, 200)
    for first in range(0, len(rows), 512):
        buffer.absorb(rows[first : first + 512])
    bank = buffer.finish()
    assert buffer.reduced
    assert buffer.seen == 30_000
    assert len(bank) == 200
    assert covering_radius(rows, bank) <= 1.3 * offline


def test_memory_is_flat_in_the_number_of_rows():
    budget = 16 * 2**20
    draw = np.random.default_rng(0)

    def peak(rounds):
        buffer = CoresetBuffer(budget, 1000)
        tracemalloc.start()
        for _ in range(rounds):
            buffer.absorb(draw.standard_normal((1024, 512), dtype=np.float32))
        buffer.finish()
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    short, long = peak(10), peak(40)
    assert long <= 1.1 * short
    assert long <= 2 * budget


def test_buffer_state_round_trip():
    rows = mixture(2000, 16)
    buffer = CoresetBuffer(800 * 16 * 4, 50, seed=2, projection=None).absorb(rows[:1500])
    again = CoresetBuffer.restore(buffer.state())
    np.testing.assert_array_equal(buffer.absorb(rows[1500:]).finish(), again.absorb(rows[1500:]).finish())
    assert (again.seen, again.reduced, again.projection) == (2000, True, None)
    empty = CoresetBuffer.restore(CoresetBuffer(100, 5).state())
    assert len(empty.absorb(rows[:3])) == 3


def test_compact_and_refusals():
    buffer = CoresetBuffer(2**20, 20).absorb(mixture(900, 8)).compact(100)
    assert len(buffer) == 100
    assert buffer.reduced
    with pytest.raises(ValueError, match="wide"):
        buffer.absorb(np.ones((2, 9), np.float32))
    with pytest.raises(ValueError, match="finite"):
        buffer.absorb(np.full((2, 8), np.inf, np.float32))
    with pytest.raises(ValueError, match="none was absorbed"):
        CoresetBuffer(2**20, 20).finish()
