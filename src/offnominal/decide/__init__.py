"""Decisions: from scores to p-values and verdicts at a stated false-alarm rate. Takes scores, never data."""

from offnominal.decide.base import Decision, Verdicts
from offnominal.decide.best_f1 import BestF1
from offnominal.decide.chi_square import ChiSquare
from offnominal.decide.combination import Surprise, combine_p_values
from offnominal.decide.conformal import Conformal
from offnominal.decide.contamination import (
    ContaminationPosterior,
    EstimatedContamination,
    contamination_posterior,
)
from offnominal.decide.discovery import Discoveries, benjamini_hochberg, benjamini_yekutieli
from offnominal.decide.drift import Drift, ScoreDrift, block_length, drift_test
from offnominal.decide.factory import decision, decision_names, restore_decision
from offnominal.decide.thresholds import Contamination, Fixed, Quantile

__all__ = [
    "BestF1",
    "ChiSquare",
    "Conformal",
    "Contamination",
    "ContaminationPosterior",
    "Decision",
    "Discoveries",
    "Drift",
    "EstimatedContamination",
    "Fixed",
    "Quantile",
    "ScoreDrift",
    "Surprise",
    "Verdicts",
    "benjamini_hochberg",
    "benjamini_yekutieli",
    "block_length",
    "combine_p_values",
    "contamination_posterior",
    "decision",
    "decision_names",
    "drift_test",
    "restore_decision",
]
