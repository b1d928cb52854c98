"""An exported model behind the contract: score, map, detect and calibrate with offnominal's own reading."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.card import find
from offnominal.core.errors import BadItem, ModelRefused
from offnominal.core.source import Source
from offnominal.core.store import is_json, read_json
from offnominal.decide import Fixed
from offnominal.image.detector import ImageBatch, ImageDetector
from offnominal.image.export.folder import THRESHOLD, read_header
from offnominal.image.export.running import open_session, runtime_for
from offnominal.image.export.writing import NotExportable


class Exported(ImageDetector):
    """A folder that `export` wrote, run by onnxruntime or OpenVINO.

    Parameters
    ----------
    folder : path
    runtime : {"auto", "onnxruntime", "openvino"}, default "auto"
        OpenVINO reads both forms; "auto" takes onnxruntime for ONNX where it is installed.

    Raises
    ------
    ModelRefused
        Not an export, a newer form, or changed after it was written. ``threshold.json`` may be changed: a
        threshold that stands there gives verdicts of basis "declared".
    """

    def __init__(self, folder: str | os.PathLike[str], runtime: str = "auto") -> None:
        self.folder = Path(folder)
        self.runtime = runtime
        header = read_header(self.folder)
        file = self.folder / ("model.onnx" if header["to"] == "onnx" else "model.xml")
        if runtime not in ("auto", "openvino", "onnxruntime"):
            raise ValueError(f"runtime must be auto, openvino or onnxruntime, got {runtime!r}")
        if runtime == "onnxruntime" and header["to"] != "onnx":
            raise ValueError(f"{self.folder} is in OpenVINO's form, which onnxruntime does not read")
        self.header = header
        self.card = replace(find(header["detector"], header["modality"]), streams=False)  # type: ignore[misc]
        prepare = header["prepare"]
        self.image_size = prepare["image_size"]
        self.tile = prepare["tile"]
        self.tile_overlap = prepare["tile_overlap"]
        self.channels_ = prepare["channels"]
        self.deep_ = prepare["deep"]
        self.pixel_low_, self.pixel_high_ = prepare["pixel_low"], prepare["pixel_high"]
        self.fitted_ = True
        self._session = open_session(file, runtime_for(file) if runtime == "auto" else runtime)
        self._read_threshold()

    def _read_threshold(self) -> None:
        if not (self.folder / THRESHOLD).is_file():
            return
        told = read_json(self.folder / THRESHOLD)
        if not isinstance(told, dict):
            raise ModelRefused(f"{self.folder / THRESHOLD} holds no JSON object; export the model again")
        threshold, level = told.get("threshold"), told.get("map_level")
        for value in (threshold, level):
            if value is not None and not (type(value) in (int, float) and is_json(value)):
                raise ModelRefused(f"{self.folder / THRESHOLD}: needs numbers or null; correct the file")
        if threshold is not None:
            self.decision_ = Fixed(float(threshold))
        self.map_level_ = level

    def _survey(
        self, source: Source, positions: Sequence[int]
    ) -> tuple[npt.NDArray[np.intp] | None, list[BadItem]]:
        raise NotExportable(f"{self.folder} is an export and learns nothing; export a fitted detector")

    def _infer(self, batch: ImageBatch) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        each = [self._session(batch.pixels[index : index + 1]) for index in range(len(batch.pixels))]
        maps = np.concatenate([found["map"] for found in each]) if self.card.localises else None
        return np.concatenate([found["score"] for found in each]), maps

    def _environment(self) -> dict[str, Any]:
        return {"export": self.header["to"], "precision": self.header["precision"]}
