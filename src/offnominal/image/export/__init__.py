"""Fitted image detectors as self-contained graphs for other runtimes: written, checked, and run.

This lives with the image detectors because a graph holds what they do to pixels; each method writes its own
graph (`graph.Graph`), so that this package names none of them.
"""

from __future__ import annotations

from offnominal.image.export.exported import Exported
from offnominal.image.export.exporting import FORMS, export
from offnominal.image.export.parity import ParityFailed
from offnominal.image.export.writing import NotExportable

__all__ = ["FORMS", "Exported", "NotExportable", "ParityFailed", "export"]
