"""From a fitted detector to files: its graph as ONNX, or converted to OpenVINO's form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from offnominal.core.errors import OffnominalError
from offnominal.image.detector import ImageDetector
from offnominal.image.export.graph import Graph, Value
from offnominal.image.maps import operator

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
        """Scores (n,), and grids (n, h, w) where the method localises."""
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
    graph = Graph(size, "float32" if detector.deep_ else "uint8")
    scores, grid = cast(Exportable, detector)._graph(graph)
    outputs: dict[str, tuple[Value, list[int]]] = {"score": (scores, [])}
    if grid is not None:
        outputs["map"] = (_map(grid, detector), [size, size])
    return graph.finish(outputs)


def _map(grid: Value, detector: ImageDetector) -> Value:
    """The grid enlarged and smoothed, by the matrices the detector's own maps come from."""
    size = detector.image_size
    height, width = detector.grid_shape()
    if (height, width) == (size, size) and detector.smoothing <= 0:
        return grid
    rows = operator(height, size, size, detector.smoothing)
    columns = operator(width, size, size, detector.smoothing)
    return rows @ (grid @ columns.T)
