"""A network written as a table of layers, independent of what runs it.

Two interpreters read the table: `graph` writes ONNX, `torch_network` builds a torch module. A head adds rows.
Values are named; feature values are channels-first inside, (n, c, h, w), and vectors are (n, c).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import CheckpointRefused

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Normalise:
    """Pixels (n, h, w, 3) in 0…255 to (n, 3, h, w): ``(x − mean) / std`` per channel, in pixel units."""

    out: str
    source: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Conv:
    """Square convolution, its batch normalisation and its activation.

    ``padding`` is pixels on each side, or "same": TensorFlow's rule, whose odd pixel goes to the right and
    the bottom. ``norm`` names the batch normalisation's tensors, ``bias`` a plain bias; at most one is given.
    """

    out: str
    source: str
    weight: str
    channels: tuple[int, int]
    kernel: int = 1
    stride: int = 1
    padding: int | str = 0
    groups: int = 1
    norm: str | None = None
    bias: str | None = None
    epsilon: float = 1e-5
    activation: str | None = None

    def pads(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Zero pixels at (top, left, bottom, right) of an input of this size."""
        if isinstance(self.padding, int):
            return (self.padding,) * 4
        down, across = (same_padding(side, self.kernel, self.stride) for side in (height, width))
        return down[0], across[0], down[1], across[1]


@dataclass(frozen=True)
class Add:
    """Sum of two values of one shape, then an activation."""

    out: str
    sources: tuple[str, str]
    activation: str | None = None


@dataclass(frozen=True)
class MaxPool:
    """Maximum over a square window; padding never wins."""

    out: str
    source: str
    kernel: int
    stride: int
    padding: int


@dataclass(frozen=True)
class GlobalMean:
    """Mean over all positions: (n, c, h, w) to (n, c)."""

    out: str
    source: str


@dataclass(frozen=True)
class Linear:
    """Affine map of vectors (n, c) to (n, d)."""

    out: str
    source: str
    weight: str
    bias: str
    channels: tuple[int, int]


@dataclass(frozen=True)
class LocalMean:
    """Mean over a square neighbourhood, stride 1, same size; positions outside the map count as zeros."""

    out: str
    source: str
    kernel: int


@dataclass(frozen=True)
class Resize:
    """Bilinear resize to ``grid`` (h, w), half-pixel centres, no antialiasing."""

    out: str
    source: str
    grid: tuple[int, int]


@dataclass(frozen=True)
class Concat:
    """Values joined along their channels."""

    out: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Scale:
    """``x · scale + shift`` per channel; both are tensors of the table, named."""

    out: str
    source: str
    scale: str
    shift: str


@dataclass(frozen=True)
class Project:
    """Linear map of the channels at every position, without bias; ``weight`` is (out, in)."""

    out: str
    source: str
    weight: str
    channels: tuple[int, int]


Node = Normalise | Conv | Add | MaxPool | GlobalMean | Linear | LocalMean | Resize | Concat | Scale | Project

ACTIVATIONS = (None, "relu", "relu6")
PIXELS = "pixels"


@dataclass(frozen=True)
class Network:
    """A named table of layers and the values that may be tapped.

    Parameters
    ----------
    name : str
        Handle of the architecture.
    nodes : tuple of Node
        In order of computation; the first reads `PIXELS`.
    taps : dict
        Public name of a level to the name of its value. "pooled" is the embedding before the classifier,
        "logits" the classifier's output over the classes it was trained on.
    levels : tuple of str
        The levels taken when none are asked for.
    native : int
        Side, in pixels, the published weights were trained or tested at.
    bf16 : bool, default False
        Whether features computed in bfloat16 stay within 2 % of fp32, so that "auto" may choose it.
    """

    name: str
    nodes: tuple[Node, ...]
    taps: dict[str, str]
    levels: tuple[str, ...]
    native: int
    bf16: bool = False

    def tensors(self) -> dict[str, Shape]:
        """Every tensor of the official state and its shape, counters of batch normalisation left out."""
        return tensors(self.nodes)


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after under TensorFlow's "same" rule: the output has ceil(side / stride) positions."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def sources(node: Node) -> tuple[str, ...]:
    """Names of the values a node reads."""
    return node.sources if isinstance(node, Add | Concat) else (node.source,)


def tensors(nodes: tuple[Node, ...]) -> dict[str, Shape]:
    """Name and shape of every tensor the nodes read from a state."""
    wanted: dict[str, Shape] = {}

    def need(name: str, shape: Shape) -> None:
        if name in wanted:
            raise ValueError(f"tensor {name!r} is used by two layers of the table")
        wanted[name] = shape

    for node in nodes:
        if isinstance(node, Conv):
            taken, given = node.channels
            need(node.weight, (given, taken // node.groups, node.kernel, node.kernel))
            if node.norm is not None:
                for part in ("weight", "bias", "running_mean", "running_var"):
                    need(f"{node.norm}.{part}", (given,))
            if node.bias is not None:
                need(node.bias, (given,))
        elif isinstance(node, Linear):
            taken, given = node.channels
            need(node.weight, (given, taken))
            need(node.bias, (given,))
    return wanted


def check_state(network: Network, state: Mapping[str, Array], origin: str) -> dict[str, Array]:
    """Match a state with a network: every tensor is used exactly once and has its shape.

    Parameters
    ----------
    network : Network
    state : mapping of str to array
        Tensors under their official names.
    origin : str
        What to call the file in an error.

    Returns
    -------
    dict of str to float32 array

    Raises
    ------
    CheckpointRefused
        A tensor is missing, left over, of another shape, or not finite.
    """
    wanted = network.tensors()
    counters = {name for name in state if name.endswith(".num_batches_tracked")}
    missing = sorted(wanted.keys() - state.keys())
    surplus = sorted(state.keys() - wanted.keys() - counters)
    if missing or surplus:
        parts = [
            f"{len(names)} tensor(s) {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
            for names, what in ((missing, "missing"), (surplus, "not of this network"))
            if names
        ]
        raise CheckpointRefused(
            f"{origin}: not the weights of {network.name}: {' and '.join(parts)}; give the matching file"
        )
    ready: dict[str, Array] = {}
    for name, shape in wanted.items():
        if tuple(state[name].shape) != shape:
            raise CheckpointRefused(
                f"{origin}: tensor {name} has shape {tuple(state[name].shape)}, {network.name} needs "
                f"{shape}; give the matching file"
            )
        ready[name] = np.ascontiguousarray(state[name], dtype=np.float32)
        if not np.isfinite(ready[name]).all():
            raise CheckpointRefused(f"{origin}: tensor {name} is not finite; the file is damaged")
    return ready


def random_state(network: Network, generator: np.random.Generator) -> dict[str, Array]:
    """A state in the official layout with random values: scaled weights, normalisation near the identity.

    Variance of weights is 2 / fan-in before a rectifier, 1 / fan-in elsewhere, as in He et al., "Delving Deep
    into Rectifiers", 2015, section 2.2: the rounding of deep networks is not blown up.
    """
    rectified = {node.weight for node in network.nodes if isinstance(node, Conv) and node.activation}
    state: dict[str, Array] = {}
    for name, shape in network.tensors().items():
        if len(shape) > 1:
            deviation = np.float32(np.sqrt((2.0 if name in rectified else 1.0) / np.prod(shape[1:])))
            state[name] = generator.standard_normal(shape, dtype=np.float32) * deviation
        elif name.endswith(("running_var", ".weight")):
            state[name] = generator.uniform(0.5, 1.5, shape).astype(np.float32)
        else:
            state[name] = generator.normal(0.0, 0.1, shape).astype(np.float32)
    return state


def fold(node: Conv, state: Mapping[str, Array]) -> tuple[Array, Array]:
    """Weight and bias of a convolution with its batch normalisation folded in (computed in float64)."""
    weight = state[node.weight].astype(np.float64)
    if node.norm is None:
        bias = state[node.bias] if node.bias is not None else np.zeros(node.channels[1])
        return weight.astype(np.float32), bias.astype(np.float32)
    gain, shift, mean, variance = (
        state[f"{node.norm}.{part}"].astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = gain / np.sqrt(variance + node.epsilon)
    folded = weight * factor[:, None, None, None]
    return folded.astype(np.float32), (shift - mean * factor).astype(np.float32)


def shapes(nodes: tuple[Node, ...], size: tuple[int, int]) -> dict[str, Shape]:
    """Shape of every value without the batch: (c, h, w) or (c,), for pixels of ``size`` (h, w)."""
    known: dict[str, Shape] = {PIXELS: (3, *size)}
    for node in nodes:
        first = known[sources(node)[0]]
        known[node.out] = _shape(node, first, [known[name] for name in sources(node)])
    return known


def _shape(node: Node, first: Shape, every: list[Shape]) -> Shape:
    if isinstance(node, Conv):
        top, left, bottom, right = node.pads(first[1], first[2])
        height = (first[1] + top + bottom - node.kernel) // node.stride + 1
        width = (first[2] + left + right - node.kernel) // node.stride + 1
        return node.channels[1], height, width
    if isinstance(node, MaxPool):
        around = 2 * node.padding - node.kernel
        return first[0], *((side + around) // node.stride + 1 for side in first[1:])
    if isinstance(node, GlobalMean):
        return first[:1]
    if isinstance(node, Linear | Project):
        return node.channels[1], *first[1:]
    if isinstance(node, Resize):
        return first[0], *node.grid
    if isinstance(node, Concat):
        return sum(shape[0] for shape in every), *first[1:]
    return first


def needed(nodes: tuple[Node, ...], outputs: tuple[str, ...]) -> tuple[Node, ...]:
    """The nodes that ``outputs`` depend on, in order; layers behind the deepest tap cost nothing."""
    wanted = set(outputs)
    kept: list[Node] = []
    for node in reversed(nodes):
        if node.out in wanted:
            wanted.update(sources(node))
            kept.append(node)
    return tuple(reversed(kept))
