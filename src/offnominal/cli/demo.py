"""``offnominal demo``: the main job on real photographs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offnominal.cli.console import Console
from offnominal.cli.console import command as command_of

if TYPE_CHECKING:
    from offnominal.cli.photographs import Material
    from offnominal.cli.results import Results
    from offnominal.report.summary import Outcome


@click.command()
@click.option(
    "--out",
    default="demo",
    show_default=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder to write.",
)
@command_of
def command(console: Console, out: Path) -> int:
    """Run the main job on real photographs: fit, detect, and write a report to look at.

    The photographs ship with the install; the defects are planted, and one file is damaged on purpose.
    """
    from offnominal.cli.photographs import CREDIT, PLANTED_NOTE
    from offnominal.report import Column

    console.say(CREDIT)
    console.say(PLANTED_NOTE)
    console.say()
    told = run_demo(out)
    columns = [
        Column("item"),
        Column("planted", "planted defect"),
        Column("score"),
        Column("p_text", "p-value"),
        Column("verdict"),
    ]
    console.table(told.rows, columns, title="Ranked, the most anomalous first")
    for line in told.words:
        console.say(line)
    console.result(told.figures)
    return 0


@dataclass(frozen=True, slots=True)
class Told:
    """What a run of the demo found.

    Attributes
    ----------
    rows : list of dict
        One an item, the most anomalous first: item, planted, score, p_text, verdict.
    figures : dict
        JSON values: AUROC of images and pixels, counts, seconds, files.
    words : list of str
        The same in sentences.
    """

    rows: list[dict[str, Any]]
    figures: dict[str, Any]
    words: list[str]


def run_demo(out: str | Path = "demo", *, false_alarm_rate: float = 0.01) -> Told:
    """Fit the default detector on crops of photographs, detect planted defects, write everything to ``out``.

    Parameters
    ----------
    out : path
        Folder; one that an earlier demo made is written anew.
    false_alarm_rate : float, default 0.01

    Returns
    -------
    Told

    Raises
    ------
    FileExistsError
        ``out`` holds something else.
    """
    from offnominal.cli.detect import detect, write
    from offnominal.cli.photographs import CREDIT, PLANTED_NOTE, lay_out
    from offnominal.data import images
    from offnominal.decide import Conformal
    from offnominal.persistence import make

    folder = Path(out)
    if (
        folder.exists()
        and not (folder / "good.csv").is_file()
        and (not folder.is_dir() or any(folder.iterdir()))
    ):
        raise FileExistsError(f"{folder} exists and is no earlier demo; choose another folder")
    began = time.perf_counter()
    material = lay_out(folder)
    laid = time.perf_counter()
    good, new = images(material.good), images(material.new)
    detector = make("patchcore").fit(good, decision=Conformal(false_alarm_rate))
    detector.save(folder / "model")
    times = {"Fit": time.perf_counter() - laid}
    results, outcome, spent = detect(
        detector, new, folder, model=str(folder / "model"), maps="all", restart=True
    )
    times |= spent
    times["Report"] = write(
        results,
        detector,
        new,
        model=str(folder / "model"),
        times=times,
        title="Demo: brick, grass and gravel",
        notes=[PLANTED_NOTE, CREDIT],
    )
    times["In all"] = time.perf_counter() - began
    return _told(folder, material, results, outcome, times, false_alarm_rate)


def _told(
    folder: Path, material: Material, results: Results, outcome: Outcome, times: dict[str, float], rate: float
) -> Told:
    import numpy as np

    from offnominal.metrics import auroc, pixel_auroc
    from offnominal.report.gather import urgency
    from offnominal.report.summary import WORDS, p_text, percent, seconds, state
    from offnominal.report.table import NOTHING

    records = sorted((r for r in results.records() if r.error is None), key=urgency, reverse=True)
    bad = [record for record in results.records() if record.error is not None]
    truth = np.array([record.item in material.planted for record in records])
    scores = np.array([record.score for record in records])
    maps = [place for record in records if (place := results.read_map(record)) is not None]
    masks = [material.masks.get(record.item) for record in records]
    image_auroc, place_auroc = float(auroc(truth, scores)), float(pixel_auroc(masks, maps))
    found = sum(record.anomalous is True and record.item in material.planted for record in records)
    false = sum(record.anomalous is True and record.item not in material.planted for record in records)
    normal = int((~truth).sum())
    rows = [
        {
            "item": record.item,
            "planted": material.planted.get(record.item, NOTHING),
            "score": record.score,
            "p_text": p_text(record.p_value),
            "verdict": WORDS[state(record)],
        }
        for record in records
    ]
    words = [
        f"Found {found} of {len(material.planted)} planted defects, with {false} false alarms on {normal} "
        f"normal crops, at a false-alarm rate of {percent(rate)}.",
        f"AUROC of images {image_auroc:.3f}, of pixels {place_auroc:.3f}.",
        *(f"Not readable, on purpose: {record.item}: {record.error}" for record in bad),
        f"Fitted in {seconds(times['Fit'])}, looked at {outcome.total} images in "
        f"{seconds(times['Detection'])}, {seconds(times['In all'])} in all.",
        "",
        f"Open {folder / 'report.html'}",
        "",
        "The same by hand:",
        f"  offnominal fit {folder / 'good.csv'} --out model",
        f"  offnominal detect model {folder / 'new.csv'} --out found --report",
    ]
    figures = {
        "image_auroc": image_auroc,
        "pixel_auroc": place_auroc,
        "found": found,
        "planted": len(material.planted),
        "false_alarms": false,
        "normal": normal,
        "unreadable": [record.item for record in bad],
        "seconds": round(times["In all"], 2),
        "report": str(folder / "report.html"),
        "results": str(folder / "results.jsonl"),
        "note": "the defects are planted",
    }
    return Told(rows, figures, words)
