"""Checks that train or drive a detector to judge it, beyond its scores."""

from __future__ import annotations

from offnominal.audit.attribution import Attribution, kernel_shap, lime, superpixels
from offnominal.audit.expected_posterior import expected_posterior, kernel_classifier
from offnominal.audit.labelling import Labelling
from offnominal.audit.trust import Explained, Trust, trust
from offnominal.audit.trust_page import write_trust

__all__ = [
    "Attribution",
    "Explained",
    "Labelling",
    "Trust",
    "expected_posterior",
    "kernel_classifier",
    "kernel_shap",
    "lime",
    "superpixels",
    "trust",
    "write_trust",
]
