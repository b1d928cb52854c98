"""A model, a decision and a run in words, for the terminal and for the report."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offnominal import __version__
from offnominal.core.detections import Detection
from offnominal.report.summary import Outcome, Summary, basis_words, p_text, percent
from offnominal.report.table import number

if TYPE_CHECKING:
    from offnominal.core.source import Source
    from offnominal.detector import Detector


def command_line() -> str:
    """The command as the user typed it."""
    import shlex

    return shlex.join(["offnominal", *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Versions of what a score can depend on."""
    found = {"offnominal": __version__, "python": platform.python_version()}
    for name in ("numpy", "openvino", "scipy", "pillow"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def summary_of(detector: Detector, **more: Any) -> Summary:
    """What the report says of how it was made.

    Parameters
    ----------
    detector : Detector
    **more
        Further fields of `Summary`.
    """
    environment = detector._environment()
    encoder = {"name": environment.get("encoder"), "fingerprint": environment.get("weights")}
    encoder |= {key: environment.get(key) for key in ("runtime", "precision")}
    card = detector.card
    told: dict[str, Any] = {
        "modality": card.modality,
        "detector": card.name,
        "card": {"title": card.title, "year": card.year, "url": card.url, "row": card.row},
        "parameters": detector.get_params(),
        "versions": versions(),
        "encoder": {key: value for key, value in encoder.items() if value is not None},
    }
    if detector.decision_ is not None:
        told["decision"] = detector.decision_.report()
        scores = detector.decision_.state().get("scores")
        if scores is not None:
            told["calibration_scores"] = [float(score) for score in scores]
    return Summary(**{**told, **more})  # type: ignore[typeddict-item]


def decision_words(detector: Detector) -> list[str]:
    """What verdicts rest on, in sentences."""
    if detector.decision_ is None:
        return ["No decision: items get a score and no verdict until `offnominal calibrate` is run."]
    said = detector.decision_.report()
    lines = []
    nouns = Outcome({}, {}, {"modality": detector.card.modality})
    normals = nouns.counted(int(said.get("n") or 0))
    if said.get("threshold") is None:
        lines.append(f"Calibrated on {normals}, which gives no threshold.")
    else:
        rate = said.get("asked_false_alarm_rate")
        at = "" if rate is None else f" at a false-alarm rate of {percent(rate)}"
        lines.append(
            f"Threshold {number(float(said['threshold']))}{at}, from the scores of {normals} that the "
            f"judging model had not seen ({basis_words(said.get('basis'))})."
        )
    if said.get("note"):
        note = str(said["note"])
        lines.append(note[:1].upper() + note[1:] + ("" if note.endswith(".") else "."))
    return lines


def verdict_words(record: Detection, rate: float | None) -> str:
    """Verdict of one record in a sentence."""
    if record.score is None:
        return f"{record.item} cannot be used: {record.error}."
    said = f"score {number(record.score)}"
    if record.p_value is not None:
        said += f", p-value {p_text(record.p_value)} ({basis_words(record.basis)})"
    if record.anomalous is None:
        return f"{record.item}: {said}; no verdict: calibrate the model with (more) normal items."
    verdict = "off-normal" if record.anomalous else "normal"
    at = "" if rate is None else f" at a false-alarm rate of {percent(rate)}"
    return f"{record.item} is {verdict}{at}: {said}."


def asked_rate(detector: Detector) -> float | None:
    """The false-alarm rate the decision was made for."""
    said: Mapping[str, Any] = {} if detector.decision_ is None else detector.decision_.report()
    rate = said.get("asked_false_alarm_rate")
    return None if rate is None else float(rate)


def columns_of(detector: Detector) -> list[str] | None:
    """Names of the columns that a map of a row speaks of; None where maps are no rows."""
    if detector.card.modality != "table" or not detector.card.localises:
        return None
    return [column.name for column in detector.encoding.columns]  # type: ignore[attr-defined]


def row_values(source: Source, position: int) -> dict[str, Any]:
    """Values of a row of a table source by the names of its columns; None where one is missing."""
    import numpy as np

    from offnominal.cli.comparing import named

    return named(source.rows(np.array([position])), 0)  # type: ignore[attr-defined]


def size_of(folder: Path) -> int:
    """Bytes of the files of a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def size_words(count: int) -> str:
    """Bytes for people."""
    value = float(count)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"
