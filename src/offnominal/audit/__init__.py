"""Checks that train or drive a detector to judge it, beyond its scores."""

from __future__ import annotations

from offnominal.audit.attribution import Attribution, kernel_shap, lime, superpixels
from offnominal.audit.trust import Explained, Trust, trust
from offnominal.audit.trust_page import write_trust

__all__ = [
    "Attribution",
    "Explained",
    "Trust",
    "kernel_shap",
    "lime",
    "superpixels",
    "trust",
    "write_trust",
]
