"""`export`: write a fitted image detector for another runtime, and prove that it scores the same."""

from __future__ import annotations

import os
import platform
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

from offnominal import __version__
from offnominal.core.errors import NotFittedError
from offnominal.core.store import write_json
from offnominal.detector import Detector
from offnominal.image.detector import ImageDetector
from offnominal.image.export.exported import Exported
from offnominal.image.export.folder import THRESHOLD, whole, write_header
from offnominal.image.export.parity import (
    LIMITS,
    ParityFailed,
    by_detector,
    by_session,
    deviation,
    exact,
    held_pixels,
)
from offnominal.image.export.running import open_session, runtime_for
from offnominal.image.export.writing import exportable, to_onnx, write
from offnominal.persistence import OtherEnvironment, load

FORMS = ("onnx", "openvino")


def export(
    model: Detector | str | os.PathLike[str],
    to: str,
    out: str | os.PathLike[str],
    *,
    precision: str = "fp32",
    sample: Any = None,
    normals: Any = None,
) -> Path:
    """Write a fitted image detector as one self-contained graph, and check that it scores the same.

    Parameters
    ----------
    model : Detector or path
        A fitted image detector, or a model folder.
    to : {"onnx", "openvino"}
        ``model.onnx``, or ``model.xml`` and ``model.bin``.
    out : path
        Folder to make; an earlier export there is replaced once the new one is whole and checked.
    precision : {"fp32", "fp16"}, default "fp32"
        In which the weights are stored; fp16 is OpenVINO's only, and half as large.
    sample : source, optional
        Images to compare on; default: seeded pictures made up for it.
    normals : source, optional
        Normal items the model was not fitted on, for a threshold of the export's own. Needed where the model
        was calibrated in another precision than the export computes in: its threshold is then not the
        export's.

    Returns
    -------
    Path
        The folder: the graph, ``export.json`` (what goes in and comes out, versions, hashes, parity) and
        ``threshold.json``, which is no part of the graph and may be changed.

    Raises
    ------
    NotExportable
        The method has no graph.
    NotFittedError
        The detector is not fitted.
    ParityFailed
        The files do not score as the detector does in fp32: more than 1e-4 (fp16: 2e-2) apart. Nothing is
        left behind.
    FileExistsError
        ``out`` holds something other than an export.

    Notes
    -----
    The graph takes ``pixels`` (n, S, S, 3) in 0…255 at model size and gives ``score`` (n,) and, where the
    method localises, ``map`` (n, S, S), all float32; n is free.
    """
    if to not in FORMS:
        raise ValueError(f"an export is to {' or '.join(FORMS)}, got {to!r}")
    if precision not in LIMITS or (to == "onnx" and precision != "fp32"):
        raise ValueError(f"precision must be fp32, or fp16 to openvino; got {precision!r} to {to}")
    detector = exportable(model if isinstance(model, Detector) else _loaded(model))
    if not detector.fitted_:
        raise NotFittedError(f"{detector.card.name} is not fitted; there is nothing to export")
    twin = exact(detector)
    folder = Path(out)
    with whole(folder) as workshop:
        files = write(to_onnx(twin), workshop, to, precision)
        parity = _parity(detector, twin, workshop / files[0], precision, sample)
        write_header(workshop, _header(detector, to, precision, parity), files)
        told = (
            _threshold(detector, precision) if normals is None else _calibrated(detector, workshop, normals)
        )
        write_json(workshop / THRESHOLD, told)
    return folder


def _loaded(folder: str | os.PathLike[str]) -> Detector:
    with warnings.catch_warnings():  # the decision that goes is told in threshold.json
        warnings.simplefilter("ignore", OtherEnvironment)
        return load(folder)


def _parity(
    detector: ImageDetector, twin: ImageDetector, file: Path, precision: str, sample: Any
) -> dict[str, Any]:
    runtime = runtime_for(file)
    pixels = held_pixels(detector, sample)
    found = by_session(open_session(file, runtime), pixels)
    apart = deviation(found, by_detector(twin, pixels))
    limit = LIMITS[precision]
    if not all(value <= limit for value in apart.values()):  # NaN is no agreement either
        told = ", ".join(f"{name} {value:.2g}" for name, value in apart.items())
        raise ParityFailed(
            f"{detector.card.name}: the export deviates from the detector by {told} (at most {limit:g} is "
            "allowed) and was removed; score with the saved model, and report this"
        )
    return {
        "images": len(pixels),
        "of": "made up" if sample is None else "the sample given",
        "run_by": runtime,
        "limit": limit,
        "deviation_from_fp32": apart,
        "deviation_from_the_model_as_it_runs": deviation(found, by_detector(detector, pixels)),
    }


def _threshold(detector: ImageDetector, precision: str) -> dict[str, Any]:
    """The detector's threshold, unless it comes from scores of another precision than the export's."""
    if detector.decision_ is None:
        note = "the model has no decision"
    elif precision != "fp32" or detector._environment().get("precision", "fp32") != "fp32":
        note = "the model was calibrated in another precision than the export computes in"
    else:
        return _told(detector)
    note += "; export it with normal items (normals=…), or write a threshold here"
    return {"threshold": None, "map_level": None, "decision": None, "note": note}


def _calibrated(detector: ImageDetector, folder: Path, normals: Any) -> dict[str, Any]:
    """A threshold from the export's own scores, by the kind of decision the detector has."""
    judge = Exported(folder)
    decision = detector.decision_
    judge.calibrate(normals, decision=decision and type(decision)(**decision.get_params()))
    return _told(judge)


def _told(judge: ImageDetector) -> dict[str, Any]:
    assert judge.decision_ is not None
    report = judge.decision_.report()
    return {"threshold": judge.decision_.threshold, "map_level": judge.map_level_, "decision": report}


def _header(detector: ImageDetector, to: str, precision: str, parity: dict[str, Any]) -> dict[str, Any]:
    size = detector.image_size
    outputs: dict[str, Any] = {"score": {"dtype": "float32", "shape": ["n"]}}
    if detector.card.localises:
        outputs["map"] = {"dtype": "float32", "shape": ["n", size, size]}
    return {
        "to": to,
        "precision": precision,
        "detector": detector.card.name,
        "modality": "image",
        "parameters": detector.get_params(),
        "environment": detector._environment(),
        "input": {"name": "pixels", "dtype": "float32", "shape": ["n", size, size, 3]},
        "outputs": outputs,
        "prepare": {
            "image_size": size,
            "tile": detector.tile,
            "tile_overlap": detector.tile_overlap,
            "channels": detector.channels_,
            "deep": detector.deep_,
            "pixel_low": detector.pixel_low_,
            "pixel_high": detector.pixel_high_,
            "how": _how(detector),
        },
        "run": {
            "openvino": {"INFERENCE_PRECISION_HINT": "f32"},
            "note": "OpenVINO takes bf16 by default where the processor has it; scores need the hint",
        },
        "parity": parity,
        "versions": _versions(),
    }


def _how(detector: ImageDetector) -> str:
    """Pre-processing up to model size, in words, for who does it without offnominal."""
    size = detector.image_size
    spread = (
        f"spread values {detector.pixel_low_:g}…{detector.pixel_high_:g} over 0…255 as float32, cutting off "
        "what is outside; "
        if detector.deep_
        else ""
    )
    tiles = (
        f"cut images whose longer side exceeds {detector.tile} into square tiles of it, each tile an input, "
        "the image's score their largest; "
        if detector.tile is not None
        else ""
    )
    return (
        f"{spread}{tiles}RGB order, a single channel three times; resize to {size}×{size} whatever the shape "
        "by a bilinear filter that widens with the reduction (Pillow's BILINEAR on floats), without rounding"
    )


def _versions() -> dict[str, str]:
    found = {"offnominal": __version__, "python": platform.python_version()}
    for name in ("numpy", "onnx", "onnxruntime", "openvino"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
