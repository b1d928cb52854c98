"""From a fitted detector to files: its graph as ONNX, or converted to OpenVINO's form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from offnominal.core.errors import OffnominalError
from offnominal.image.detector import ImageDetector
from offnominal.image.export.graph import Graph, Value

if TYPE_CHECKING:
    import onnx

PROTOBUF_LIMIT = (2 << 30) - (
    1 << 24
)  # bytes of one message; beyond it the constants go into a file of their own


class NotExportable(OffnominalError, TypeError):
    """A detector, or this state of it, cannot be written as a graph."""


class Exportable(Protocol):
    """A detector that can write its scoring down."""

    def _graph(self, graph: Graph) -> tuple[Value, Value | None]:
        """Scores (n,), and maps (n, S, S) where the method localises."""
        ...


def exportable(detector: Any) -> ImageDetector:
    """The detector, where it can be exported.

    Raises
    ------
    NotExportable
        It is not of images, or its method has no graph.
    """
    if not isinstance(detector, ImageDetector) or not hasattr(detector, "_graph"):
        name = getattr(getattr(detector, "card", None), "name", type(detector).__name__)
        raise NotExportable(f"{name} cannot be exported: it has no scoring graph; score with the saved model")
    return detector


def to_onnx(detector: ImageDetector) -> onnx.ModelProto:
    """A fitted detector's scores and maps at model size, from pixels of model size."""
    size = detector.image_size
    graph = Graph(size)
    scores, places = cast(Exportable, detector)._graph(graph)
    outputs: dict[str, tuple[Value, list[int]]] = {"score": (scores, [])}
    if places is not None:
        outputs["map"] = (places, [size, size])
    return graph.finish(outputs)


def write(model: onnx.ModelProto, folder: Path, to: str, precision: str) -> list[str]:
    """Write a graph's files into a folder; their names, the one to open first."""
    import onnx

    file = folder / "model.onnx"
    beside = sum(len(constant.raw_data) for constant in model.graph.initializer) > PROTOBUF_LIMIT
    if beside:
        onnx.save_model(
            model, str(file), save_as_external_data=True, location="model.onnx.data", size_threshold=1024
        )
    else:
        file.write_bytes(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(file))
    names = ["model.onnx", "model.onnx.data"] if beside else ["model.onnx"]
    if to == "onnx":
        return names
    import openvino

    converted = openvino.Core().read_model(file)
    for port, output in zip(converted.outputs, model.graph.output, strict=True):
        port.tensor.set_names({output.name})  # the nodes' own names go
    openvino.save_model(converted, folder / "model.xml", compress_to_fp16=precision == "fp16")
    del converted  # it may still map the constants' file
    for name in names:
        (folder / name).unlink()
    return ["model.xml", "model.bin"]
