"""The trust audit as a page with pictures, a table and JSON."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from offnominal.audit.trust import Picture, Trust
from offnominal.core.store import write_json, write_text
from offnominal.report import csv_text, overlay
from offnominal.report.picture import display, picture_uri

SIDE = 320
BYTES = 40_000
WORDS = {"image": "image, anomaly outlined", "lime": "LIME", "shap": "SHAP", "map": "its own map"}
OUTLINE = (0, 200, 255)


def write_trust(audit: Trust, folder: str | os.PathLike[str]) -> Path:
    """Write ``trust.html``, ``trust.csv`` and ``trust.json``.

    Parameters
    ----------
    audit : Trust
    folder : path
        Made where it is missing.

    Returns
    -------
    Path
        The page, one file with all its pictures.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    cards = [
        (item, _pictures(audit.pictures[item.item])) for item in audit.items if item.item in audit.pictures
    ]
    environment = Environment(
        loader=PackageLoader("offnominal.audit"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("trust.html").render(audit=audit, cards=cards, words=WORDS)
    rows = [
        {"item": item.item, "score": item.score, "anomalous": item.anomalous, "chance": item.chance}
        | {f"jaccard_{name}": value for name, value in item.jaccard.items()}
        for item in audit.items
    ]
    write_json(out / "trust.json", audit.to_json())
    write_text(out / "trust.csv", csv_text(rows, list(rows[0])))
    write_text(out / "trust.html", page)
    return out / "trust.html"


def _pictures(found: Picture) -> dict[str, str]:
    image = display(found.image)
    shown = {"image": _outlined(image, found.mask)}
    for name, values in found.maps.items():
        low = 0.0 if name != "map" else float(np.median(values))
        shown[name] = overlay(image, values, low=low, high=max(float(values.max()), low + 1e-12))
    return {name: picture_uri(picture, SIDE, BYTES) for name, picture in shown.items()}


def _outlined(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    from scipy.ndimage import binary_dilation

    thick = max(1, max(mask.shape) // 150)
    edge = binary_dilation(mask, iterations=thick) & ~mask
    drawn = image.copy()
    drawn[edge] = OUTLINE
    return drawn
