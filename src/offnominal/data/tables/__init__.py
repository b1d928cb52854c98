"""Tables: arrays, frames, files and queries as rows that are read in blocks."""

from offnominal.data.tables.limits import TableLimits
from offnominal.data.tables.rows import Column, Kind, Rows, of_numbers
from offnominal.data.tables.source import TableSource, tables
from offnominal.data.tables.sql import Sql

__all__ = ["Column", "Kind", "Rows", "Sql", "TableLimits", "TableSource", "of_numbers", "tables"]
