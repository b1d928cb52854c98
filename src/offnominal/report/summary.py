"""What a run was, and its outcome in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from offnominal.core.detections import Detection
from offnominal.report.table import NOTHING, number

STATES = ("anomalous", "normal", "none", "bad")
WORDS = {"anomalous": "off-normal", "normal": "normal", "none": "no verdict", "bad": "unreadable"}
NOUNS = {
    "image": ("image", "images"),
    "video": ("frame", "frames"),
    "series": ("time step", "time steps"),
    "table": ("row", "rows"),
    "text": ("document", "documents"),
    "events": ("event", "events"),
    "graph": ("node", "nodes"),
    "volume": ("volume", "volumes"),
    "cloud": ("scan", "scans"),
}


class Summary(TypedDict, total=False):
    """What `write_report` can be told about a run; every key may be left out.

    Attributes
    ----------
    title : str
        Heading of the page, such as the name of the source.
    modality : str
        What the items are; decides how they are called.
    source, model : str
        What was looked at, and which model folder looked.
    detector : str
        Public name of the detector.
    card : mapping
        ``title``, ``year``, ``url``, ``row`` of the paper.
    parameters, encoder, versions : mapping
        Names and JSON values. For the encoder ``name``, ``fingerprint``, ``runtime``, ``precision``.
    decision : mapping
        `offnominal.decide.base.Decision.report`.
    calibration_scores : sequence of float
        Scores of the normals the decision was fitted on, for the histogram.
    times : mapping
        Seconds by what they were spent on.
    started, command : str
        When, and by which command line.
    notes : sequence of str
        What a reader must know, such as that the defects of a demo were planted.
    """

    title: str
    modality: str
    source: str
    model: str
    detector: str
    card: Mapping[str, Any]
    parameters: Mapping[str, Any]
    encoder: Mapping[str, Any]
    versions: Mapping[str, Any]
    decision: Mapping[str, Any]
    calibration_scores: Sequence[float]
    times: Mapping[str, float]
    started: str
    command: str
    notes: Sequence[str]


def state(record: Detection) -> str:
    """Which of `STATES` a record is in."""
    if record.error is not None or record.score is None:
        return "bad"
    if record.anomalous is None:
        return "none"
    return "anomalous" if record.anomalous else "normal"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Counts of a run and what they mean.

    Attributes
    ----------
    counts : dict of str to int
        Records by state.
    bases : dict of (str or None) to int
        Readable records by what their p-value or verdict rests on.
    summary : mapping
        As `Summary`.
    """

    counts: Mapping[str, int]
    bases: Mapping[str | None, int]
    summary: Mapping[str, Any]

    @classmethod
    def of(cls, records: Iterable[Detection], summary: Mapping[str, Any]) -> Outcome:
        """Count records."""
        counts = Counter(dict.fromkeys(STATES, 0))
        bases: Counter[str | None] = Counter()
        for record in records:
            counts[state(record)] += 1
            if state(record) != "bad":
                bases[record.basis] += 1
        return cls(dict(counts), dict(bases), summary)

    @property
    def total(self) -> int:
        """Records in all."""
        return sum(self.counts.values())

    def noun(self, count: int) -> str:
        """What the items are called, for so many of them."""
        one, many = NOUNS.get(str(self.summary.get("modality", "")), ("item", "items"))
        return one if count == 1 else many

    def counted(self, count: int) -> str:
        """A number with its noun."""
        return f"{count:,} {self.noun(count)}".replace(",", "\N{NO-BREAK SPACE}")

    @property
    def rate(self) -> float | None:
        """The false-alarm rate that was asked for."""
        rate = self._decision.get("asked_false_alarm_rate")
        return float(rate) if rate is not None else None

    @property
    def _decision(self) -> Mapping[str, Any]:
        return self.summary.get("decision") or {}

    def headline(self) -> tuple[str, str]:
        """Say the verdict in two parts: what was found, and under which condition."""
        anomalous, judged = self.counts["anomalous"], self.counts["anomalous"] + self.counts["normal"]
        if not self.total:
            return f"There were no {self.noun(2)} to look at", ""
        if self.counts["bad"] == self.total:
            whole = f"None of {self.counted(self.total)} could be read"
            return (whole if self.total > 1 else f"The one {self.noun(1)} could not be read"), ""
        if not judged:
            verb = "was" if self.counts["none"] == 1 else "were"
            return f"{self.counted(self.counts['none'])} {verb} scored and ranked", "without a verdict"
        whole = f"{self.counted(judged)}" + (" with a verdict" if self.counts["none"] else "")
        if anomalous:
            found = f"{anomalous} of {whole} {'is' if anomalous == 1 else 'are'} off-normal"
        elif judged == 1:
            found = f"The one {self.noun(1)} is normal"
        else:
            found = f"None of {whole} is off-normal"
        return found, "" if self.rate is None else f"at a false-alarm rate of {percent(self.rate)}"

    def explanation(self) -> list[str]:
        """Say in sentences what the verdicts rest on."""
        said = []
        normals = self._decision.get("n")
        crowd = f"normal {self.noun(2)}"
        if normals is not None:
            crowd = f"{self.counted(int(normals))} known to be normal"
        if self.bases.get("rank"):
            said.append(
                f"A p-value says how rarely a normal {self.noun(1)} scores as high: its rank among the "
                f"scores of {crowd}, each scored by a model that had not seen it."
            )
        if self.bases.get("tail"):
            said.append(
                f"For {self.counted(self.bases['tail'])}, scoring beyond what ranks can tell, the p-value "
                f"comes from a tail fitted to the scores of {crowd}: an estimate, not a count."
            )
        if self.bases.get("declared"):
            said.append(
                "The threshold was declared, not learned from normals: how often it raises a false alarm "
                "is not known."
            )
        judged = self.counts["anomalous"] + self.counts["normal"]
        if self.rate is not None and judged > 1 and (self.bases.get("rank") or self.bases.get("tail")):
            expected = self.rate * judged
            about = "fewer than one" if expected < 0.75 else f"about {round(expected)}"
            said.append(f"If all {self.counted(judged)} were normal, {about} would be flagged by chance.")
        if self.counts["none"]:
            which = "The" if self.counts["none"] == self.total else "The other"
            has = "has" if self.counts["none"] == 1 else "have"
            said.append(
                f"{which} {self.counted(self.counts['none'])} {has} a score and no verdict: calibrate the "
                "model with normal items (offnominal calibrate) to get one."
            )
        if self._decision.get("note"):
            said.append(sentence(str(self._decision["note"])))
        return said


def basis_words(basis: str | None) -> str:
    """What a p-value or verdict rests on, in a few words."""
    words = {"rank": "rank among normals", "tail": "fitted tail", "declared": "declared threshold"}
    return NOTHING if basis is None else words.get(basis, basis)


def percent(share: float) -> str:
    """Write a share as a percentage with no more digits than it has."""
    return f"{float(f'{100 * share:.3g}'):g} %"


def p_text(value: float | None) -> str:
    """Write a p-value with two significant digits."""
    if value is None:
        return NOTHING
    return "< 0.0001" if value < 1e-4 else f"{float(f'{value:.2g}'):.{4 if value < 1e-3 else 3}f}"


def seconds(value: float) -> str:
    """Write a time so that it is read at a glance."""
    if value < 1:
        return f"{number(1000 * value, 0)} ms"
    if value < 100:
        return f"{number(value, 1)} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def sentence(text: str) -> str:
    """A text with a capital at its beginning and a full stop at its end."""
    text = text.strip()
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
