"""``offnominal fit``: learn what is normal."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path
from typing import Any

import click

from offnominal.cli.console import Console
from offnominal.cli.console import command as command_of
from offnominal.cli.failures import BAD_ITEMS
from offnominal.core.errors import BadItem
from offnominal.report.summary import seconds

RATE = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command()
@click.argument("source")
@click.option(
    "--detector", default="auto", show_default=True, metavar="NAME", help="See offnominal catalogue."
)
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="With auto: the plan to follow; where there is no such file, the plan made is written there.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="MODEL", help="Model folder.")
@click.option(
    "--modality",
    help="image, table …; by default what the detector's name settles, else what SOURCE is called like.",
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A parameter of the detector.")
@click.option("--false-alarm-rate", type=RATE, default=0.01, show_default=True, help="Of normal items.")
@click.option(
    "--on-bad",
    type=click.Choice(["skip", "refuse"]),
    default="skip",
    show_default=True,
    help="What to do about items that cannot be read.",
)
@command_of
def command(
    console: Console,
    source: str,
    detector: str,
    plan_file: Path | None,
    out: Path,
    modality: str | None,
    settings: tuple[str, ...],
    false_alarm_rate: float,
    on_bad: str,
) -> int:
    """Learn what is normal from SOURCE: a folder, a glob, a file, a manifest or a table of normal items.

    A fit that is interrupted goes on when the same command is given again.
    """
    from offnominal.cli.described import decision_words, size_of, size_words
    from offnominal.cli.opening import choose, open_items, usable
    from offnominal.cli.parameters import as_settings, detector_with
    from offnominal.cli.planning import planned
    from offnominal.core.card import find
    from offnominal.core.model_folder import is_replaceable
    from offnominal.decide import Conformal

    if not is_replaceable(out):
        raise click.UsageError(f"--out {out} exists and is not a model folder; choose another name")
    if plan_file is not None and detector != "auto":
        raise click.UsageError(f"--plan goes with --detector auto, not with {detector}")
    name, kind = choose(detector, modality, source)
    plan = None
    if detector == "auto":
        opened = open_items(source, kind or find(name).modality)
        plan = planned(opened, plan_file)
        for reason in plan.because:
            console.say(reason)
        made = detector_with(plan.detector, kind, (*as_settings(plan.parameters), *settings))
    else:
        made = detector_with(name, kind, settings)  # what is wrong with a setting is said before reading
        opened = open_items(source, made.card.modality)
    began = time.perf_counter()
    partial = out.parent / f".{out.name}.partial"
    partial.mkdir(
        parents=True, exist_ok=True
    )  # says at once, not after the fit, where nothing can be written
    try:
        items, bad = usable(
            opened,
            lambda good: made.fit(good, decision=Conformal(false_alarm_rate), checkpoint=partial),
            on_bad,
        )
        made.save(out)
        shutil.rmtree(partial, ignore_errors=True)
    finally:
        with contextlib.suppress(OSError):  # stays where there is something to go on from
            partial.rmdir()
    took = time.perf_counter() - began
    console.say(f"{made.card.name} fitted on {len(items)} items of {items.name} in {seconds(took)}.")
    for line in decision_words(made):
        console.say(line)
    console.say(f"Model: {out} ({size_words(size_of(out))})")
    say_skipped(console, bad)
    console.result(
        {
            "model": str(out),
            "detector": made.card.name,
            "plan": list(plan.because) if plan is not None else None,
            "source": items.name,
            "items": len(items),
            "skipped": skipped_json(bad),
            "decision": made.decision_.report() if made.decision_ is not None else None,
            "seconds": round(took, 3),
            "bytes": size_of(out),
        }
    )
    return BAD_ITEMS if bad else 0


def say_skipped(console: Console, bad: list[BadItem]) -> None:
    """List items that were left out."""
    if bad:
        console.say(f"Left out, {len(bad)} that cannot be used:")
        for entry in bad:
            console.say(f"  {entry}")


def skipped_json(bad: list[BadItem]) -> list[dict[str, Any]]:
    """Items that were left out, for machines."""
    return [{"item": entry.item, "error": entry.reason} for entry in bad]
