"""Interprets a table of layers as a torch module: for GPUs, and as the start of methods that train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from offnominal.core.errors import ExtraMissing
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
    needed,
    sources,
)

if TYPE_CHECKING:
    import torch


def to_torch(
    nodes: tuple[Node, ...], outputs: tuple[str, ...], state: Mapping[str, Array]
) -> torch.nn.Module:
    """Build a module that computes ``outputs`` from pixels.

    Parameters
    ----------
    nodes, outputs, state
        As in `graph.to_onnx`.

    Returns
    -------
    torch.nn.Module
        ``module(pixels (n, h, w, 3) in 0…255)`` gives a list of float32 tensors, feature maps as
        (n, c, h, w), vectors as (n, c). Any spatial size works unless a head fixes a grid. Convolutions and
        batch normalisations are torch's own, in evaluation mode, with gradients on; freeze them, or call
        ``.train()``, as a method needs.

    Raises
    ------
    ExtraMissing
        torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise ExtraMissing("torch", "running an encoder in torch") from error

    kept = needed(nodes, outputs)

    class TorchNetwork(torch.nn.Module):
        """A table of layers, one child module for each row that has parameters."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleDict()
            for node in kept:
                layer = _layer(node, state)
                if layer is not None:
                    self.layers[_key(node)] = layer

        def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
            values = {PIXELS: pixels}
            for node in kept:
                key = _key(node)
                layer = self.layers[key] if key in self.layers else None  # noqa: SIM401 - ModuleDict has no get
                values[node.out] = _apply(node, layer, [values[name] for name in sources(node)])
            return [values[name] for name in outputs]

    return TorchNetwork().eval()


def _key(node: Node) -> str:
    return node.out.replace(".", "_")  # torch forbids dots in the names of children


def _tensor(array: Array) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.array(array, dtype=np.float32))  # a copy: training must not touch the state


def _layer(node: Node, state: Mapping[str, Array]) -> torch.nn.Module | None:
    """The module that holds a row's parameters or constants, if it has any."""
    import torch

    if isinstance(node, Conv):
        taken, given = node.channels
        convolution = torch.nn.Conv2d(
            taken, given, node.kernel, node.stride, 0, groups=node.groups, bias=node.bias is not None
        )
        parts = {"0.weight": _tensor(state[node.weight])}
        if node.bias is not None:
            parts["0.bias"] = _tensor(state[node.bias])
        layers: list[torch.nn.Module] = [convolution]
        if node.norm is not None:
            layers.append(torch.nn.BatchNorm2d(given, eps=node.epsilon))
            for part in ("weight", "bias", "running_mean", "running_var"):
                parts[f"1.{part}"] = _tensor(state[f"{node.norm}.{part}"])
            parts["1.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
        block = torch.nn.Sequential(*layers)
        block.load_state_dict(parts)
        return block
    if isinstance(node, Linear):
        linear = torch.nn.Linear(*node.channels)
        linear.load_state_dict({"weight": _tensor(state[node.weight]), "bias": _tensor(state[node.bias])})
        return linear
    constants: dict[str, Array] = {}
    if isinstance(node, Normalise):
        constants = {"mean": np.asarray(node.mean), "rate": 1.0 / np.asarray(node.std)}
    elif isinstance(node, Scale):
        constants = {"scale": state[node.scale], "shift": state[node.shift]}
    elif isinstance(node, Project):
        constants = {"weight": state[node.weight]}
    if not constants:
        return None
    holder = torch.nn.Module()
    for name, value in constants.items():
        holder.register_buffer(name, _tensor(value))
    return holder


def _activate(kind: str | None, value: torch.Tensor) -> torch.Tensor:
    if kind == "relu":
        return value.relu()
    return value.clamp(0, 6) if kind == "relu6" else value


def _apply(node: Node, layer: Any, values: list[torch.Tensor]) -> Any:
    import torch
    from torch.nn import functional

    first = values[0]
    spread = (1, -1) + (1,) * (first.ndim - 2)
    if isinstance(node, Normalise):
        planes = first.permute(0, 3, 1, 2).to(layer.mean.dtype)
        return (planes - layer.mean.reshape(spread)) * layer.rate.reshape(spread)
    if isinstance(node, Conv):
        top, left, bottom, right = node.pads(first.shape[2], first.shape[3])
        return _activate(node.activation, layer(functional.pad(first, (left, right, top, bottom))))
    if isinstance(node, Add):
        return _activate(node.activation, values[0] + values[1])
    if isinstance(node, MaxPool):
        return functional.max_pool2d(first, node.kernel, node.stride, node.padding)
    if isinstance(node, GlobalMean):
        return first.mean((2, 3))
    if isinstance(node, Linear):
        return layer(first)
    if isinstance(node, LocalMean):
        return functional.avg_pool2d(first, node.kernel, 1, node.kernel // 2, count_include_pad=True)
    if isinstance(node, Resize):
        return functional.interpolate(first, size=node.grid, mode="bilinear", align_corners=False)
    if isinstance(node, Concat):
        return torch.cat(values, dim=1)
    if isinstance(node, Scale):
        return first * layer.scale.reshape(spread) + layer.shift.reshape(spread)
    if isinstance(node, Project):
        return torch.einsum("oc,nc...->no...", layer.weight, first)
    raise TypeError(f"no torch form of {type(node).__name__}")
