"""Every error a user can meet: one clear sentence that names the item and the remedy."""

from __future__ import annotations

from collections.abc import Sequence


class OffnominalError(Exception):
    """Base of every error raised on purpose by offnominal."""


class BadItem(OffnominalError, ValueError):
    """One item of a source cannot be used.

    Parameters
    ----------
    item : str
        Name of the item, as results name it.
    reason : str
        What is wrong, in a few words.
    remedy : str, default ""
        What the user can do about it.
    """

    def __init__(self, item: str, reason: str, remedy: str = "") -> None:
        self.item = item
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{item}: {reason}" + (f"; {remedy}" if remedy else ""))

    def __reduce__(self) -> tuple[type[BadItem], tuple[str, str, str]]:
        return type(self), (self.item, self.reason, self.remedy)


class BadItems(OffnominalError, ValueError):
    """Several items of a source cannot be used; ``items`` holds a `BadItem` for each."""

    shown = 20

    def __init__(self, items: Sequence[BadItem]) -> None:
        self.items = list(items)
        lines = [f"{len(self.items)} item(s) cannot be used:"]
        lines += [f"  {bad}" for bad in self.items[: self.shown]]
        if len(self.items) > self.shown:
            lines.append(f"  … and {len(self.items) - self.shown} more")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type[BadItems], tuple[list[BadItem]]]:
        return type(self), (self.items,)


class BadSource(OffnominalError, ValueError):
    """A source as a whole cannot be used: missing, empty, or of a kind that is not understood."""


class NotFittedError(OffnominalError, RuntimeError):
    """A detector that needs `fit` was asked to score before it was fitted."""


class NoDecisionError(OffnominalError, RuntimeError):
    """A verdict was asked for where there is no decision; `calibrate` makes one."""


class NotSavable(OffnominalError, TypeError):
    """A detector's learned state is not made of arrays and JSON values."""


class ModelRefused(OffnominalError, ValueError):
    """A model folder is damaged, tampered with, or written by a newer version."""


class CheckpointRefused(OffnominalError, ValueError):
    """A weights file is hostile, damaged, or of a form that is not read."""


class WeightsUnavailable(OffnominalError, RuntimeError):
    """Weights are not on this machine and could not be had; the message says where to put them."""


class ExtraMissing(OffnominalError, ImportError):
    """An optional part of offnominal is not installed.

    Parameters
    ----------
    extra : str
        Name of the extra that brings it.
    purpose : str
        What it is needed for.
    """

    def __init__(self, extra: str, purpose: str) -> None:
        self.extra = extra
        self.purpose = purpose
        super().__init__(f"{purpose} needs an optional part: pip install 'offnominal[{extra}]'")

    def __reduce__(self) -> tuple[type[ExtraMissing], tuple[str, str]]:
        return type(self), (self.extra, self.purpose)
