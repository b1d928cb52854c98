"""Decisions by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from offnominal.core.errors import ModelRefused
from offnominal.decide.base import Decision
from offnominal.decide.best_f1 import BestF1
from offnominal.decide.chi_square import ChiSquare
from offnominal.decide.conformal import Conformal
from offnominal.decide.contamination import EstimatedContamination
from offnominal.decide.thresholds import Contamination, Fixed, Quantile

_DECISIONS: dict[str, type[Decision]] = {
    kind.name: kind
    for kind in (BestF1, ChiSquare, Conformal, Contamination, EstimatedContamination, Fixed, Quantile)
}


def decision_names() -> list[str]:
    """Names that `decision` takes, sorted."""
    return sorted(_DECISIONS)


def decision(name: str, /, **params: Any) -> Decision:
    """Make a decision by name.

    Parameters
    ----------
    name : str
        One of `decision_names`.
    **params
        Arguments of its class, such as ``false_alarm_rate``.

    Raises
    ------
    ValueError
        No decision has this name, or an argument is out of its range.
    TypeError
        An argument is unknown or missing.
    """
    if name not in _DECISIONS:
        raise ValueError(f"there is no decision {name!r}; there are {', '.join(decision_names())}")
    kind = _DECISIONS[name]
    signature = inspect.signature(kind)
    try:
        signature.bind(**params)
    except TypeError as error:
        takes = ", ".join(signature.parameters) or "no argument"
        raise TypeError(f"decision {name!r}: {error}; it takes {takes}") from error
    return kind(**params)


def restore_decision(name: str, params: Mapping[str, Any], state: Mapping[str, Any]) -> Decision:
    """Make a decision again from its name, `Decision.get_params` and `Decision.state`.

    Raises
    ------
    ModelRefused
        There is no such decision here, or what was stored is damaged.
    """
    if name not in _DECISIONS:
        raise ModelRefused(f"there is no decision {name!r} in this version; call calibrate to make another")
    return _DECISIONS[name].restore(params, state)
