"""Which encoders can be used on this machine, and what to do about the rest."""

from __future__ import annotations

from dataclasses import dataclass

from offnominal.encoders.image import encoder_names
from offnominal.encoders.weights import IMAGENET_NOTE, known, locate, remedy


@dataclass(frozen=True)
class Availability:
    """One weights file, or an encoder that needs one of your own.

    Attributes
    ----------
    name : str
        Name of the encoder.
    file : str
        Official file name, "" where none is known.
    present : bool
    where : str
        What carries the file ("package …", "cache", …), "" where it is absent.
    licence, origin, note : str
    remedy : str
        How to get it, "" where it is present.
    """

    name: str
    file: str
    present: bool
    where: str
    licence: str
    origin: str
    note: str
    remedy: str


def available() -> list[Availability]:
    """Every known weights file by encoder, looked up on this machine without reading any."""
    rows = []
    for name in encoder_names():
        entries = known(name)
        for entry in entries:
            found = locate(entry)
            rows.append(
                Availability(
                    name=name,
                    file=entry.file,
                    present=found is not None,
                    where="" if found is None else found.where,
                    licence=entry.licence,
                    origin=entry.origin,
                    note=IMAGENET_NOTE,
                    remedy="" if found is not None else remedy(name, entry),
                )
            )
        if not entries:
            rows.append(Availability(name, "", False, "", "", "", "no official file is known", remedy(name)))
    return rows
