"""``offnominal calibrate``: replace a model's decision."""

from __future__ import annotations

from pathlib import Path

import click

from offnominal.cli.console import Console
from offnominal.cli.console import command as command_of
from offnominal.cli.failures import BAD_ITEMS
from offnominal.cli.fit import RATE, say_skipped, skipped_json


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("source")
@click.option(
    "--false-alarm-rate",
    type=RATE,
    help="Of normal items.  [default: what the model was made for, else 0.01]",
)
@click.option(
    "--on-bad",
    type=click.Choice(["skip", "refuse"]),
    default="skip",
    show_default=True,
    help="What to do about items that cannot be read.",
)
@command_of
def command(console: Console, model: Path, source: str, false_alarm_rate: float | None, on_bad: str) -> int:
    """Replace the decision of MODEL by one that rests on SOURCE: normal items it was not fitted on.

    The model itself stays as it is; its folder is replaced once the new one is whole.
    """
    from offnominal.cli.described import asked_rate, decision_words
    from offnominal.cli.opening import open_items, usable
    from offnominal.decide import Conformal
    from offnominal.persistence import load

    detector = load(model)
    rate = false_alarm_rate or asked_rate(detector) or 0.01
    items, bad = usable(
        open_items(source, detector.card.modality),
        lambda good: detector.calibrate(good, decision=Conformal(rate)),
        on_bad,
    )
    detector.save(model)
    console.say(f"{model} calibrated on {len(items)} items of {items.name}.")
    for line in decision_words(detector):
        console.say(line)
    say_skipped(console, bad)
    console.result(
        {
            "model": str(model),
            "source": items.name,
            "items": len(items),
            "skipped": skipped_json(bad),
            "decision": detector.decision_.report() if detector.decision_ is not None else None,
        }
    )
    return BAD_ITEMS if bad else 0
