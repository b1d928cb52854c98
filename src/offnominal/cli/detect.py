"""``offnominal detect``: score the items of a source."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offnominal.cli.console import Console
from offnominal.cli.console import command as command_of
from offnominal.cli.failures import BAD_ITEMS

if TYPE_CHECKING:
    from offnominal.cli.results import Results
    from offnominal.core.source import Source
    from offnominal.detector import Detector
    from offnominal.report.summary import Outcome


@click.command()
@click.argument("model")
@click.argument("source")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of results."
)
@click.option("--report", is_flag=True, help="Write DIR/report.html too.")
@click.option(
    "--maps",
    type=click.Choice(["none", "anomalous", "all"]),
    default="anomalous",
    show_default=True,
    help="Of which items to write the map.",
)
@click.option("--restart", is_flag=True, help="Drop the results of an earlier run in DIR.")
@command_of
def command(
    console: Console, model: str, source: str, out: Path, report: bool, maps: str, restart: bool
) -> int:
    """Score the items of SOURCE with MODEL: a model folder, or the name of a detector that needs no fit.

    Each record is written as it comes; given again, the command goes on where it was interrupted.
    """
    from offnominal.cli.opening import open_items, open_model

    if Path(source).is_dir() and out.resolve().is_relative_to(Path(source).resolve()):
        raise click.UsageError(
            f"--out {out} lies inside {source}, where its maps would be found as new items"
        )
    detector = open_model(model)
    items = open_items(source, detector.card.modality)
    results, outcome, times = detect(detector, items, out, model=model, maps=maps, restart=restart)
    if report:
        times["Report"] = write(results, detector, items, model=model, times=times)
    say(console, results, outcome, out, times, report=report)
    return BAD_ITEMS if outcome.counts["bad"] else 0


def detect(
    detector: Detector,
    source: Source,
    out: Path,
    *,
    model: str,
    maps: str = "anomalous",
    restart: bool = False,
) -> tuple[Results, Outcome, dict[str, float]]:
    """Score what an earlier run in ``out`` did not, and write records as they come.

    Parameters
    ----------
    detector : Detector
    source : Source
    out : Path
        Folder of results.
    model : str
        Name of the model, as the report and ``run.json`` give it.
    maps : {"none", "anomalous", "all"}
        Of which items to write the map.
    restart : bool
        Drop what is in ``out``.

    Returns
    -------
    results : Results
    outcome : Outcome
        Counts of all records, old and new.
    times : dict of str to float
        Seconds.
    """
    from offnominal.cli.described import columns_of
    from offnominal.cli.results import Results, stamp
    from offnominal.report.summary import Outcome

    began = time.perf_counter()
    columns = columns_of(detector)
    results = Results(out, facts(detector, source), maps, restart=restart, columns=columns)
    left = results.keep(source, detector.card.localises)
    part = source if len(left) == len(source) else source.subset(left)
    if left:
        with results:
            for position, record in enumerate(detector.detect(part)):
                results.add(record, stamp(part, position))
    outcome = Outcome.of(results.records(), {})
    took = time.perf_counter() - began
    results.finish(source, {"model": model, "counts": outcome.counts, "seconds": round(took, 3)})
    return results, outcome, {"Detection": took}


def facts(detector: Detector, source: Source) -> dict[str, Any]:
    """What a record depends on besides its item."""
    import hashlib
    import json
    import os

    from offnominal import __version__
    from offnominal.persistence import to_state

    header, arrays = to_state(detector)
    digest = hashlib.sha256(json.dumps(header, sort_keys=True, default=str).encode())
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(arrays[name].tobytes())
    return {
        "format": 1,
        "version": __version__,
        "detector": detector.card.name,
        "model_digest": digest.hexdigest(),
        "source": os.path.abspath(source.name) if os.path.exists(source.name) else source.name,
    }


def write(
    results: Results,
    detector: Detector,
    source: Source,
    *,
    model: str,
    times: Mapping[str, float],
    **more: Any,
) -> float:
    """Write the report and return how many seconds it took; ``more`` goes into its summary."""
    from offnominal.cli.described import columns_of, command_line, summary_of
    from offnominal.cli.failures import Failure
    from offnominal.cli.results import REPORT
    from offnominal.report import write_report

    began = time.perf_counter()
    places = {reference.item: position for position, reference in enumerate(source.references)}
    told = {
        "title": Path(source.name).name or source.name,
        "source": source.name,
        "model": model,
        "times": times,
        "started": datetime.now(UTC).astimezone().strftime("%Y-%m-%d %H:%M"),
        "command": command_line(),
        **more,
    }
    pictured = detector.card.modality == "image"
    try:
        write_report(
            results.folder / REPORT,
            results.records(),
            read_image=_reader(source, places) if pictured else None,
            read_map=_map_reader(results, detector, source, places) if pictured else None,
            read_row=_row_reader(source, places) if columns_of(detector) is not None else None,
            summary=summary_of(detector, **told),
        )
    except OSError as error:
        raise Failure(
            f"{results.folder / REPORT}: cannot be written ({error.strerror or error}); the records are whole"
        ) from error
    return time.perf_counter() - began


def _reader(source: Source, places: Mapping[str, int]) -> Callable[[str], Any]:
    return lambda item: source.read(places[item]).value if item in places else None


def _row_reader(source: Source, places: Mapping[str, int]) -> Callable[[str], dict[str, Any]]:
    """Values of an item's columns, by name."""
    from offnominal.cli.described import row_values

    return lambda item: row_values(source, places[item]) if item in places else {}


def _map_reader(
    results: Results, detector: Detector, source: Source, places: Mapping[str, int]
) -> Callable[[Any], Any]:
    """Maps of pictured items: from their file, else made again."""

    def read(record: Any) -> Any:
        found = results.read_map(record)
        if found is None and detector.card.localises and record.item in places:
            from offnominal.core.errors import BadItems
            from offnominal.core.progress import shown

            try:
                with shown(False):
                    found = detector.anomaly_map(source.subset([places[record.item]]))[0]
            except BadItems:  # the file changed after it was scored
                return None
        return found

    return read


SHOWN = 10


def say(
    console: Console,
    results: Results,
    outcome: Outcome,
    out: Path,
    times: Mapping[str, float],
    *,
    report: bool,
) -> None:
    """Tell what was found."""
    from offnominal.cli.results import RECORDS, REPORT, RUN
    from offnominal.report import Column
    from offnominal.report.gather import urgency
    from offnominal.report.summary import WORDS, p_text, seconds, state

    if console.as_json:
        files = {
            "results": str(out / RECORDS),
            "report": str(out / REPORT) if report else None,
            "run": str(out / RUN),
        }
        console.result(
            {
                "items": outcome.total,
                "counts": outcome.counts,
                "seconds": round(sum(times.values()), 3),
                **files,
            }
        )
        return
    if console.quiet:
        return
    ranked = sorted((r for r in results.records() if r.error is None), key=urgency, reverse=True)
    bad = [record for record in results.records() if record.error is not None]
    rows = [
        {"item": r.item, "score": r.score, "p": p_text(r.p_value), "verdict": WORDS[state(r)]}
        for r in ranked[:SHOWN]
    ]
    if rows:
        more = f" (the {SHOWN} highest of {len(ranked)})" if len(ranked) > SHOWN else ""
        columns = [Column("item"), Column("score"), Column("p", "p-value"), Column("verdict")]
        console.table(rows, columns, title=f"Ranked{more}")
    counts = ", ".join(f"{count} {WORDS[name]}" for name, count in outcome.counts.items() if count)
    console.say(f"{outcome.total} items in {seconds(times['Detection'])}: {counts}.")
    if bad:
        console.say("Not readable:")
        for record in bad[:SHOWN]:
            console.say(f"  {record.item}: {record.error}")
        if len(bad) > SHOWN:
            console.say(f"  … and {len(bad) - SHOWN} more, see {out / RECORDS}")
    console.say(f"Records: {out / RECORDS}")
    if report:
        console.say(f"Report:  {out / REPORT}")
