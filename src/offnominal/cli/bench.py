"""``offnominal bench``: measure detectors on data sets."""

from __future__ import annotations

from pathlib import Path

import click

from offnominal.cli.console import Console
from offnominal.cli.console import command as command_of


def _names(ctx: click.Context, option: click.Parameter, value: str | None) -> list[str] | None:
    """Names between commas."""
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


def _numbers(ctx: click.Context, option: click.Parameter, value: str) -> list[int]:
    """Whole numbers between commas."""
    try:
        return [int(number) for number in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of whole numbers, like 0,1,2") from None


#: What the summary shows of each suite.
MEASURES = {
    "image": ("auroc", "ap", "pixel_auroc", "aupro"),
    "shift": ("auroc", "shifted_auroc", "false_alarm_rate"),
    "table": ("auroc", "ap", "f1"),
}


@click.command()
@click.argument("suite", type=click.Choice(list(MEASURES)))
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of data sets."
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of results."
)
@click.option(
    "--detectors", callback=_names, metavar="A,B", help="Names; all that the suite measures by default."
)
@click.option("--sets", callback=_names, metavar="A,B", help="Data sets; all that are in DIR by default.")
@click.option("--seeds", callback=_numbers, default="0,1,2", show_default=True, metavar="A,B")
@click.option("--limit", type=click.IntRange(1), help="Images or rows a part at most, for a quick look.")
@command_of
def command(
    console: Console,
    suite: str,
    data: Path,
    out: Path,
    detectors: list[str] | None,
    sets: list[str] | None,
    seeds: list[int],
    limit: int | None,
) -> None:
    """Measure detectors on the data sets of SUITE; what is done already is not done again.

    shift measures image detectors on test images with light, contrast, focus and noise changed.
    """
    from offnominal.bench import RunsFailedError, run_shift, run_suite
    from offnominal.cli.failures import Failure
    from offnominal.report import Column

    if not data.is_dir():
        raise click.UsageError(f"--data {data}: no such folder; it holds one folder a data set")
    try:
        if suite == "shift":
            records = run_shift(data, detectors, out, seeds=seeds, sets=sets, limit=limit)
        else:
            records = run_suite(suite, data, detectors, out, seeds=seeds, sets=sets, limit=limit)
    except RunsFailedError as error:
        raise Failure(
            f"{error}\nThe others are done and kept in {out}; the same command runs these again"
        ) from error
    columns = [Column("set"), Column("seed"), Column("label", "detector")]
    columns += [Column(key, key.replace("_", " "), digits=3) for key in MEASURES[suite]]
    console.table(records, columns)
    console.say(f"Results and tables: {out}")
    console.result(records)
