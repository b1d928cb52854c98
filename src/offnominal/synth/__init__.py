"""Synthetic anomalies: one generator a file, each seeded, each with masks."""

from __future__ import annotations

from offnominal.synth.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from offnominal.synth.planted import KINDS, Planted, generate, plant

__all__ = ["CORRUPTIONS", "KINDS", "SEVERITIES", "Planted", "corrupt", "generate", "plant"]
