"""Decisions: from scores to p-values and verdicts at a stated false-alarm rate. Takes scores, never data."""

from offnominal.decide.base import Decision, Verdicts
from offnominal.decide.best_f1 import BestF1
from offnominal.decide.chi_square import ChiSquare
from offnominal.decide.conformal import Conformal
from offnominal.decide.discovery import Discoveries, benjamini_hochberg, benjamini_yekutieli
from offnominal.decide.factory import decision, decision_names, restore_decision
from offnominal.decide.thresholds import Contamination, Fixed, Quantile

__all__ = [
    "BestF1",
    "ChiSquare",
    "Conformal",
    "Contamination",
    "Decision",
    "Discoveries",
    "Fixed",
    "Quantile",
    "Verdicts",
    "benjamini_hochberg",
    "benjamini_yekutieli",
    "decision",
    "decision_names",
    "restore_decision",
]
