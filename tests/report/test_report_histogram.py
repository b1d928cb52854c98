"""The histogram: nothing lost, nothing out of the frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offnominal.report.histogram import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, histogram

STATES = ("normal", "none", "anomalous")


@settings(deadline=None)  # the first example also pays for imports
@given(
    st.lists(st.tuples(st.floats(-1e9, 1e9), st.sampled_from(STATES)), min_size=1, max_size=60),
    st.lists(st.floats(-1e9, 1e9), max_size=30),
    st.none() | st.floats(-1e9, 1e9),
)
def test_every_item_is_in_a_bar_inside_the_frame(items, calibration, threshold):
    scores, states = zip(*items, strict=True)
    drawn = histogram(scores, states, calibration=calibration, threshold=threshold)
    for bar in drawn.bars:
        assert LEFT - 0.1 <= bar.x <= bar.x + bar.width <= WIDTH - RIGHT + 1.1
        assert TOP - 1.1 <= bar.y <= bar.y + bar.height <= HEIGHT - BOTTOM + 1.1
    assert {bar.state for bar in drawn.bars} == set(states)
    assert len(drawn.strokes) == len(items)
    assert (drawn.threshold is None) == (threshold is None)
    assert bool(drawn.outline) == bool(calibration)
    assert 1 <= len(drawn.ticks) <= 8
    assert drawn.shares[0][1] == "0 %"


def test_heights_are_shares():
    drawn = histogram([1.0] * 30 + [2.0] * 10, ["normal"] * 30 + ["anomalous"] * 10)
    by_state = {state: sum(bar.height for bar in drawn.bars if bar.state == state) for state in STATES}
    assert by_state["normal"] == pytest.approx(3 * by_state["anomalous"], rel=0.01)


def test_one_far_score_does_not_squeeze_the_rest():
    scores = np.random.default_rng(0).normal(10, 1, 200).tolist()
    drawn = histogram([*scores, 1e6], ["normal"] * 200 + ["anomalous"])
    assert drawn.cut
    xs = [bar.x for bar in drawn.bars if bar.state == "normal"]
    assert max(xs) - min(xs) > (WIDTH - LEFT - RIGHT) / 5
    assert [bar.x + bar.width for bar in drawn.bars if bar.state == "anomalous"] == [
        pytest.approx(WIDTH - RIGHT, abs=1.1)
    ]


def test_no_scores_no_histogram():
    assert histogram([], []) is None
