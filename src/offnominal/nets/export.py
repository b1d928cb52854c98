"""From a trained torch network to a graph that runs without torch."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from offnominal.core.errors import NotSavable
from offnominal.nets.compiled import Compiled

OPSET = 17


def to_graph(module: torch.nn.Module, *examples: torch.Tensor, tolerance: float = 1e-4) -> bytes:
    """Export a network, and check that what was exported computes the same.

    Parameters
    ----------
    module : torch.nn.Module
        On the CPU. It is exported in evaluation mode; its outputs are a tensor, or a tuple or list of
        tensors, of which the first axis is the item.
    *examples : (rows, …) float32 tensors
        Inputs as they will come: their shapes, the rows too, are those of every request. One row is best for
        images; many for vectors, which are too small to be run one by one.
    tolerance : float, default 1e-4
        Largest difference allowed, relative to each output's largest value.

    Returns
    -------
    bytes
        An ONNX graph with its weights, for `compiled.Compiled`. A detector keeps it as
        ``np.frombuffer(graph, np.uint8)`` in an attribute such as ``graph_``.

    Raises
    ------
    NotSavable
        The network cannot be exported, or the export computes something else.
    """
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")  # the tracer tells of shapes it takes as constant: they are
            expected = module(*examples)
            file = Path(folder) / "graph.onnx"
            torch.onnx.export(module, examples, file, opset_version=OPSET, dynamo=False)
            graph = _shaped(file.read_bytes(), _listed(expected))
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        raise NotSavable(f"{type(module).__name__} cannot be exported: {error}") from error
    finally:
        for part, mode in modes.items():
            part.training = mode
    try:
        compiled = Compiled(graph)
    except ValueError as error:
        raise NotSavable(f"{type(module).__name__} does not run when exported: {error}") from error
    found = compiled(*(example.numpy() for example in examples))
    for number, (tensor, array) in enumerate(zip(_listed(expected), found, strict=True)):
        if array.shape != tuple(tensor.shape):
            raise NotSavable(
                f"output {number} of the exported {type(module).__name__} has shape {array.shape}, "
                f"not {tuple(tensor.shape)}"
            )
        scale = max(float(tensor.abs().max()), 1e-12)
        difference = float(np.abs(tensor.numpy() - array).max()) / scale
        if not difference <= tolerance:
            raise NotSavable(
                f"output {number} of the exported {type(module).__name__} differs by {difference:.1e} of its "
                f"largest value, {tolerance:.1e} is allowed"
            )
    return graph


def _listed(outputs: torch.Tensor | Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


def _shaped(graph: bytes, outputs: Sequence[torch.Tensor]) -> bytes:
    """A graph that states the shapes of its outputs: the exporter leaves some as names."""
    import onnx

    model = onnx.load_model_from_string(graph)
    for port, output in zip(model.graph.output, outputs, strict=True):
        kind = port.type.tensor_type
        port.CopyFrom(onnx.helper.make_tensor_value_info(port.name, kind.elem_type, list(output.shape)))
    stated: bytes = model.SerializeToString(deterministic=True)
    return stated


def compile_module(module: torch.nn.Module, *examples: torch.Tensor) -> Compiled:
    """Export a network with `to_graph` and make it ready to run at once."""
    return Compiled(to_graph(module, *examples))
