"""Runs the graph of an export, by onnxruntime or by OpenVINO."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.threads import budget
from offnominal.encoders.runtime import installed

OUTPUTS = ("score", "map")
Results = dict[str, npt.NDArray[np.float32]]
Session = Callable[[npt.NDArray[Any]], Results]


def runtime_for(file: Path) -> str:
    """What runs a file: OpenVINO its own form, onnxruntime ONNX where it is installed."""
    return "onnxruntime" if file.suffix == ".onnx" and installed("onnxruntime") else "openvino"


def open_session(file: Path, runtime: str) -> Session:
    """Load a graph.

    Parameters
    ----------
    file : Path
        ``model.onnx`` or ``model.xml``.
    runtime : {"onnxruntime", "openvino"}

    Returns
    -------
    callable
        Takes pixels (n, S, S, 3), returns arrays by output name. In fp32: where a processor has bf16 units,
        OpenVINO left to itself would use them, and a memory bank does not bear that.
    """
    if runtime == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = budget()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda pixels: dict(zip(names, session.run(names, {"pixels": pixels}), strict=True))
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": budget()}
    compiled = openvino.Core().compile_model(file, "CPU", settings)
    outputs = {name: port for port in compiled.outputs for name in port.names & set(OUTPUTS)}

    def run(pixels: npt.NDArray[Any]) -> Results:
        found = compiled([pixels])
        return {name: np.array(found[port]) for name, port in outputs.items()}

    return run
