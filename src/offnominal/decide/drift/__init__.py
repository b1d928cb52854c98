"""Drift: whether scores or inputs still come from the distribution that a decision was calibrated on."""

from __future__ import annotations

from offnominal.decide.drift.betting import Bettor
from offnominal.decide.drift.online import ScoreDrift, Watched, block_length
from offnominal.decide.drift.two_sample import Drift, drift_test

__all__ = ["Bettor", "Drift", "ScoreDrift", "Watched", "block_length", "drift_test"]
