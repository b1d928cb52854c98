"""Writes a table of layers as ONNX: the one form that every runtime, and every export, starts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from offnominal.encoders.network import (
    PIXELS,
    Add,
    Array,
    Concat,
    Conv,
    GlobalMean,
    Linear,
    LocalMean,
    MaxPool,
    Node,
    Normalise,
    Project,
    Resize,
    Scale,
    Shape,
    fold,
    needed,
    shapes,
    sources,
)

if TYPE_CHECKING:
    import onnx

OPSET = 17
_IR_VERSION = 8  # what opset 17 came with: the oldest runtimes allowed read it


def to_onnx(
    nodes: tuple[Node, ...],
    outputs: tuple[str, ...],
    state: Mapping[str, Array],
    size: tuple[int, int],
    *,
    batch: int | None = None,
    dtype: str = "uint8",
    name: str = "encoder",
) -> onnx.ModelProto:
    """Write layers as an ONNX model of a fixed spatial size.

    Parameters
    ----------
    nodes : tuple of Node
        The table; what ``outputs`` do not depend on is left out.
    outputs : tuple of str
        Values to give out, in this order: feature maps as (n, h, w, c), vectors as (n, c), float32.
    state : mapping of str to array
        Every tensor the nodes name.
    size : (int, int)
        Height and width of the pixels, which come as (n, h, w, 3) in 0…255.
    batch : int, optional
        Fixed number of images; left out, the batch is free.
    dtype : {"uint8", "float32"}
        Type of the pixels.

    Returns
    -------
    onnx.ModelProto
        Opset 17, checked.
    """
    import onnx
    from onnx import TensorProto, helper

    kept = needed(nodes, outputs)
    writer = _Writer(shapes(kept, size), state)
    for node in kept:
        writer.write(node)
    free = batch if batch is not None else "n"
    element = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}[dtype]
    given = []
    for index, value in enumerate(outputs):
        shape = writer.shapes[value]
        public = f"output{index}"
        if len(shape) == 3:
            writer.add("Transpose", [value], public, perm=[0, 2, 3, 1])
            shape = (shape[1], shape[2], shape[0])
        else:
            writer.add("Identity", [value], public)
        given.append(helper.make_tensor_value_info(public, TensorProto.FLOAT, [free, *shape]))
    pixels = helper.make_tensor_value_info(PIXELS, element, [free, *size, 3])
    graph = helper.make_graph(writer.nodes, name, [pixels], given, writer.constants)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="offnominal"
    )
    model.ir_version = _IR_VERSION
    onnx.checker.check_model(model)
    return model


class _Writer:
    """Collects the ONNX nodes and constants of a table."""

    def __init__(self, known: Mapping[str, Shape], state: Mapping[str, Array]) -> None:
        self.shapes = known
        self.state = state
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, inputs: list[str], out: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [out], name=out, **attributes))
        return out

    def constant(self, name: str, value: Array) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def per_channel(self, name: str, value: Any, like: Shape) -> str:
        """A float32 constant that spreads over the positions of a value of this shape."""
        return self.constant(name, np.asarray(value, np.float32).reshape(-1, *(1 for _ in like[1:])))

    def activate(self, kind: str | None, source: str, out: str) -> None:
        if kind == "relu":
            self.add("Relu", [source], out)
        elif kind == "relu6":
            low = self.constant(f"{out}:low", np.array(0, np.float32))
            high = self.constant(f"{out}:high", np.array(6, np.float32))
            self.add("Clip", [source, low, high], out)

    def write(self, node: Node) -> None:
        out, names = node.out, list(sources(node))
        like = self.shapes[names[0]]
        if isinstance(node, Normalise):
            self._normalise(node)
        elif isinstance(node, Conv):
            weight, bias = fold(node, self.state)
            raw = out if node.activation is None else f"{out}:raw"
            self.add(
                "Conv",
                [*names, self.constant(f"{out}:weight", weight), self.constant(f"{out}:bias", bias)],
                raw,
                kernel_shape=[node.kernel] * 2,
                strides=[node.stride] * 2,
                pads=list(node.pads(like[1], like[2])),
                group=node.groups,
            )
            self.activate(node.activation, raw, out)
        elif isinstance(node, Add):
            raw = out if node.activation is None else f"{out}:raw"
            self.add("Add", names, raw)
            self.activate(node.activation, raw, out)
        elif isinstance(node, MaxPool):
            self._pool("MaxPool", node.source, out, node.kernel, node.stride, node.padding)
        elif isinstance(node, LocalMean):
            self._pool("AveragePool", node.source, out, node.kernel, 1, node.kernel // 2, count_include_pad=1)
        elif isinstance(node, GlobalMean):
            mean = self.add("GlobalAveragePool", names, f"{out}:map")
            self.add("Flatten", [mean], out, axis=1)
        elif isinstance(node, Linear):
            kernel = self.constant(f"{out}:weight", self.state[node.weight])
            offset = self.constant(f"{out}:bias", self.state[node.bias])
            self.add("Gemm", [*names, kernel, offset], out, transB=1)
        elif isinstance(node, Resize):
            self._resize(node)
        elif isinstance(node, Concat):
            self.add("Concat", names, out, axis=1)
        elif isinstance(node, Scale):
            scale = self.per_channel(f"{out}:scale", self.state[node.scale], like)
            shift = self.per_channel(f"{out}:shift", self.state[node.shift], like)
            self.add("Add", [self.add("Mul", [*names, scale], f"{out}:scaled"), shift], out)
        elif isinstance(node, Project):
            self._project(node, like)

    def _normalise(self, node: Normalise) -> None:
        from onnx import TensorProto

        self.add("Cast", [node.source], f"{node.out}:float", to=TensorProto.FLOAT)
        self.add("Transpose", [f"{node.out}:float"], f"{node.out}:planes", perm=[0, 3, 1, 2])
        like = self.shapes[node.source]
        mean = self.per_channel(f"{node.out}:mean", node.mean, like)
        rate = self.per_channel(f"{node.out}:rate", 1.0 / np.asarray(node.std), like)
        centred = self.add("Sub", [f"{node.out}:planes", mean], f"{node.out}:centred")
        self.add("Mul", [centred, rate], node.out)

    def _pool(
        self, kind: str, source: str, out: str, kernel: int, stride: int, padding: int, **more: Any
    ) -> None:
        self.add(
            kind, [source], out, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[padding] * 4, **more
        )

    def _resize(self, node: Resize) -> None:
        before = self.shapes[node.source]
        if before[1:] == node.grid:
            self.add("Identity", [node.source], node.out)
            return
        factors = np.array([1, 1, node.grid[0] / before[1], node.grid[1] / before[2]], np.float32)
        exact = all(
            int(side * factor) == wanted
            for side, factor, wanted in zip(before[1:], factors[2:].tolist(), node.grid, strict=True)
        )
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        if exact:
            self.add(
                "Resize", [node.source, "", self.constant(f"{node.out}:factors", factors)], node.out, **how
            )
        else:  # sizes leave the batch no freedom, so they are read from the value itself
            shape = self.add("Shape", [node.source], f"{node.out}:batch", start=0, end=2)
            grid = self.constant(f"{node.out}:grid", np.array(node.grid, np.int64))
            sizes = self.add("Concat", [shape, grid], f"{node.out}:sizes", axis=0)
            self.add("Resize", [node.source, "", "", sizes], node.out, **how)

    def _project(self, node: Project, like: Shape) -> None:
        weight = self.state[node.weight]
        if len(like) == 3:
            kernel = self.constant(f"{node.out}:weight", weight[:, :, None, None])
            self.add("Conv", [node.source, kernel], node.out, kernel_shape=[1, 1])
        else:
            kernel = self.constant(f"{node.out}:weight", weight)
            self.add("Gemm", [node.source, kernel], node.out, transB=1)
