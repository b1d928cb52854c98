"""``--detector auto``: a plan that is made, written, read and followed."""

from __future__ import annotations

from pathlib import Path

from offnominal.core.errors import BadSource
from offnominal.core.plan import Plan
from offnominal.core.source import Source


def planned(source: Source, path: Path | None) -> Plan:
    """Return the plan of a file, or make one and write it there.

    Parameters
    ----------
    source : Source
        Normal items.
    path : path or None
        Of a plan, or where it is to be written.

    Raises
    ------
    BadSource
        The file is no plan, or one for another modality.
    """
    if path is not None and path.exists():
        plan = Plan.read(path)
        if plan.modality != source.modality:
            raise BadSource(f"{path} is a plan for {plan.modality}; {source.name} is {source.modality}")
        return plan
    if source.modality == "image":
        from offnominal.image import planner
    else:
        from offnominal.table import planner  # type: ignore[no-redef]
    plan = planner.plan(planner.fingerprint(source))
    if path is not None:
        plan.write(path)
    return plan
