"""Pages, tables and pictures: what people read of a run."""

from __future__ import annotations

from offnominal.report.overlay import heat_map, overlay
from offnominal.report.page import Summary, write_report
from offnominal.report.regions import regions
from offnominal.report.table import Column, csv_text, markdown_table, print_table

__all__ = [
    "Column",
    "Summary",
    "csv_text",
    "heat_map",
    "markdown_table",
    "overlay",
    "print_table",
    "regions",
    "write_report",
]
