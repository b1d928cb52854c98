"""Splits that keep together what belongs together."""

from offnominal.data.split.duplicates import near_duplicate_groups, thumbnail
from offnominal.data.split.partition import folds, holdout

__all__ = ["folds", "holdout", "near_duplicate_groups", "thumbnail"]
