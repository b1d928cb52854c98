"""A scoring graph in the making: values with the arithmetic that methods need, kept as ONNX.

A method that exports has one more hook beside `_infer`, which writes the same computation down::

    def _graph(self, graph: Graph) -> tuple[Value, Value | None]:
        (rows,) = graph.encode(self.features)
        distances, _ = graph.nearest(rows, self.bank_, 1)
        return distances.mean(1), None

It returns the scores (n,) and, where the method localises, the maps at model size (`Graph.map`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from offnominal.encoders import ImageEncoder
from offnominal.image.maps import operator

if TYPE_CHECKING:
    import onnx

Array = npt.NDArray[Any]

PIXELS = "pixels"
OPSET, IR_VERSION = 17, 8  # what the encoders' graphs are written in
ITEMWISE = {
    "Add", "AveragePool", "BatchNormalization", "Constant", "Conv", "ConvTranspose", "Div", "Elu", "Erf",
    "Exp", "GlobalAveragePool", "Identity", "LeakyRelu", "MaxPool", "Mul", "Neg", "Relu", "Sigmoid", "Sqrt",
    "Sub", "Tanh",
}  # fmt: skip
"""Layers that treat items alike, whatever their number."""

SPARE = 7  # bank rows proposed beyond those asked for: more than rounding can bring into disorder


@dataclass(frozen=True, eq=False)
class Value:
    """What a node gives out; float32 unless said otherwise."""

    graph: Graph
    name: str

    def __add__(self, other: Operand) -> Value:
        return self.graph.op("Add", self, other)

    def __sub__(self, other: Operand) -> Value:
        return self.graph.op("Sub", self, other)

    def __rsub__(self, other: Operand) -> Value:
        return self.graph.op("Sub", other, self)

    def __mul__(self, other: Operand) -> Value:
        return self.graph.op("Mul", self, other)

    def __truediv__(self, other: Operand) -> Value:
        return self.graph.op("Div", self, other)

    def __matmul__(self, other: Operand) -> Value:
        return self.graph.op("MatMul", self, other)

    def __rmatmul__(self, other: Array) -> Value:
        return self.graph.op("MatMul", other, self)

    __array_ufunc__ = None  # an array on the left leaves the operator to this class

    def exp(self) -> Value:
        """Exponential."""
        return self.graph.op("Exp", self)

    def abs(self) -> Value:
        """Absolute value."""
        return self.graph.op("Abs", self)

    def sqrt(self) -> Value:
        """Square root."""
        return self.graph.op("Sqrt", self)

    def sum(self, axis: int, *, keep: bool = False) -> Value:
        """Sum over an axis."""
        return self.graph.op("ReduceSum", self, np.array([axis]), keepdims=int(keep))

    def mean(self, axis: int, *, keep: bool = False) -> Value:
        """Mean over an axis."""
        return self.graph.op("ReduceMean", self, axes=[axis], keepdims=int(keep))

    def max(self, axis: int, *, keep: bool = False) -> Value:
        """Largest over an axis."""
        return self.graph.op("ReduceMax", self, axes=[axis], keepdims=int(keep))

    def norm(self, axis: int) -> Value:
        """Euclidean length over an axis."""
        return (self * self).sum(axis).sqrt()

    def argmax(self, axis: int) -> Value:
        """Place of the (first) largest over an axis, int64."""
        return self.graph.op("ArgMax", self, axis=axis, keepdims=0)

    def largest(self, count: int) -> Value:
        """The largest ``count`` of the last axis, in falling order."""
        return self.graph.several(2, "TopK", self, np.array([count]), axis=-1, largest=1, sorted=1)[0]

    def reshape(self, *shape: int) -> Value:
        """Another shape; −1 is what is left (the number of images is never known)."""
        return self.graph.op("Reshape", self, np.array(shape))

    def spread(self, axis: int) -> Value:
        """A new axis of length one."""
        return self.graph.op("Unsqueeze", self, np.array([axis]))

    def transpose(self, *order: int) -> Value:
        """The axes in another order."""
        return self.graph.op("Transpose", self, perm=list(order))

    def take(self, places: Operand, axis: int = 0) -> Value:
        """Slices at places of an axis, the same for all images."""
        return self.graph.op("Gather", self, places, axis=axis)

    def pick(self, places: Value) -> Value:
        """From values (n, p, …) those at an image's own places (n,) or (n, q): (n, …) or (n, q, …)."""
        return self.graph.op("GatherND", self, places.spread(-1), batch_dims=1)

    def cast(self, kind: str) -> Value:
        """Another type: "float32" or "int64"."""
        from onnx import TensorProto

        return self.graph.op(
            "Cast", self, to={"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}[kind]
        )


Operand = Value | Array | float


class Graph:
    """Collects nodes and constants; ``pixels`` is what comes in, (n, S, S, 3) in 0…255.

    Parameters
    ----------
    size : int
        S.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.pixels = Value(self, PIXELS)
        self._held: dict[int, tuple[Array, Value]] = {}

    def constant(self, value: Array | float) -> Value:
        """A constant: whole numbers as int64, others as float32; the same array is held once."""
        from onnx import numpy_helper

        if id(value) in self._held:
            return self._held[id(value)][1]
        given = np.asarray(value)
        array = given.astype(np.int64 if given.dtype.kind in "iu" else np.float32, order="C")
        found = Value(self, f"constant:{len(self.constants)}")
        self.constants.append(numpy_helper.from_array(array, found.name))
        if given is value:  # kept, so that no other array takes its identity
            self._held[id(value)] = given, found
        return found

    def several(self, outputs: int, kind: str, *inputs: Operand, **attributes: Any) -> list[Value]:
        """A node with several outputs."""
        from onnx import helper

        names = [value.name if isinstance(value, Value) else self.constant(value).name for value in inputs]
        out = [f"{kind}:{len(self.nodes)}:{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, names, out, name=out[0], **attributes))
        return [Value(self, name) for name in out]

    def op(self, kind: str, *inputs: Operand, **attributes: Any) -> Value:
        """A node with one output."""
        return self.several(1, kind, *inputs, **attributes)[0]

    def encode(self, encoder: ImageEncoder) -> list[Value]:
        """Features of the pixels, as `ImageEncoder.encode` gives them."""
        model = encoder.graph(dtype="float32")
        self.nodes += model.graph.node
        self.constants += model.graph.initializer
        return [Value(self, output.name) for output in model.graph.output]

    def network(self, stored: bytes | Array, *inputs: Value) -> list[Value]:
        """Outputs of a network kept as ONNX, as `nets.export.to_graph` makes it for one item.

        Parameters
        ----------
        stored : bytes or (n,) uint8 array
            Its inputs and outputs have one item along the first axis, and float32 values.
        *inputs : Value
            Values (n, …), one for each of its inputs.

        Notes
        -----
        The trace of a network for one item may hold that 1 in the shapes it works with, so the network is
        run for each item by itself (ONNX's Scan), unless it is made of layers that do not ask for shapes.
        """
        import onnx
        from onnx import compose, helper, numpy_helper

        raw = stored.tobytes() if isinstance(stored, np.ndarray) else stored
        own = f"network{len(self.nodes)}:"
        body = compose.add_prefix(onnx.load_model_from_string(raw), own).graph
        given, outputs = [port.name for port in body.input], [port.name for port in body.output]
        if {node.op_type for node in body.node} <= ITEMWISE:
            self.nodes += [
                helper.make_node("Identity", [value.name], [name], name=name)
                for value, name in zip(inputs, given, strict=True)
            ]
            self.nodes += body.node
            self.constants += body.initializer
            return [Value(self, name) for name in outputs]
        axis = f"{own}items"
        opened = [helper.make_node("Unsqueeze", [f"{name}:item", axis], [name]) for name in given]
        closed = [helper.make_node("Squeeze", [name, axis], [f"{name}:item"]) for name in outputs]
        step = helper.make_graph(
            [*opened, *body.node, *closed],
            f"{own}step",
            [_of_item(port) for port in body.input],
            [_of_item(port) for port in body.output],
            [*body.initializer, numpy_helper.from_array(np.array([0]), axis)],
        )
        return self.several(len(outputs), "Scan", *inputs, body=step, num_scan_inputs=len(given))

    def nearest(self, rows: Value, bank: Array, k: int) -> tuple[Value, Value]:
        """Distances (r, k), ascending, and places (r, k) of the bank rows nearest to rows (r, d).

        Half squared distances by matrix product lose digits to cancellation, so they only propose rows, a
        few more than asked for; the proposed ones are ranked by differences, as `NearestRows` does.
        """
        proposed = min(k + SPARE, len(bank))
        held = self.constant(bank)
        shift = bank.mean(axis=0, dtype=np.float64).astype(np.float32)
        halves = ((bank - shift).astype(np.float64) ** 2).sum(axis=1) / 2
        product = self.op("Gemm", rows - shift, held - shift, halves, alpha=-1.0, transB=1)
        _, candidates = self.several(2, "TopK", product, np.array([proposed]), axis=1, largest=0, sorted=1)
        apart = rows.spread(1) - held.take(candidates)
        squared = (apart * apart).sum(2)
        best, place = self.several(2, "TopK", squared, np.array([k]), axis=1, largest=0, sorted=1)
        return best.sqrt(), self.op("GatherElements", candidates, place, axis=1)

    def map(self, grid: Value, shape: tuple[int, int], smoothing: float) -> Value:
        """Maps (n, S, S) of grids (n, h, w) of a shape: enlarged and smoothed as `map_from_grid` does."""
        rows, columns = (operator(side, self.size, self.size, smoothing) for side in shape)
        return rows @ (grid @ columns.T)

    def finish(self, outputs: dict[str, tuple[Value, list[int]]]) -> onnx.ModelProto:
        """Close the graph.

        Parameters
        ----------
        outputs : dict
            Value and shape without the images, by public name.

        Returns
        -------
        onnx.ModelProto
            The number of images is free.
        """
        from onnx import TensorProto, helper

        given = []
        for name, (value, shape) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value.name], [name], name=name))
            given.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape]))
        pixels = helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, ["n", self.size, self.size, 3])
        graph = helper.make_graph(self.nodes, "detector", [pixels], given, self.constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="offnominal"
        )
        model.ir_version = IR_VERSION
        return model


def _of_item(port: Any) -> Any:
    """What an input or output is for one item: its shape without the first axis."""
    from onnx import helper

    kind = port.type.tensor_type
    shape = [axis.dim_value for axis in kind.shape.dim]
    return helper.make_tensor_value_info(f"{port.name}:item", kind.elem_type, shape[1:])
