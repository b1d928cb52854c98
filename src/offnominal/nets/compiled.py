"""Runs an exported network on the CPU, without torch."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.threads import budget

Array = npt.NDArray[Any]

_CORE: list[Any] = []


def _core() -> Any:
    """The process's one OpenVINO core: making one scans for devices."""
    if not _CORE:
        import openvino

        _CORE.append(openvino.Core())
    return _CORE[0]


class Compiled:
    """A network ready to run: ``compiled(x)`` gives its outputs as float32 arrays.

    Every request has the shape the network was exported with, its last one filled up with zeros, so an item's
    result does not depend on the items beside it. Requests run side by side within the thread budget. It may
    be called from several threads.

    Parameters
    ----------
    graph : bytes or (n,) uint8 array
        An ONNX graph, as `export.to_graph` makes it.
    precision : {"fp32", "bf16"}
        What it computes in; bf16 is for processors that have it.

    Raises
    ------
    ValueError
        The bytes are no graph that the runtime can read.
    """

    def __init__(self, graph: bytes | Array, precision: str = "fp32") -> None:
        import openvino

        threads = budget()
        core = _core()
        try:
            model = core.read_model(graph.tobytes() if isinstance(graph, np.ndarray) else graph)
        except RuntimeError as error:
            raise ValueError(f"the stored network cannot be read ({error}); fit it again") from error
        self._inputs = [tuple(port.shape) for port in model.inputs]
        self._outputs = [tuple(port.shape) for port in model.outputs]
        if not all(shape and shape[0] == self._inputs[0][0] for shape in self._inputs + self._outputs):
            raise ValueError(
                f"inputs {self._inputs} and outputs {self._outputs} of a network must all have items along "
                "the first axis"
            )
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": threads,
            },
        )
        self._queue = openvino.AsyncInferQueue(compiled, threads)
        self._lock = threading.Lock()

    def __call__(self, *inputs: Array) -> list[Array]:
        """Run the network.

        Parameters
        ----------
        *inputs : (n, …) arrays
            Any number of items, each of the shape the network was exported for.

        Returns
        -------
        list of (n, …) float32 arrays
            One for each output.
        """
        rows, count = self._inputs[0][0], len(inputs[0])
        for given, wanted in zip(inputs, self._inputs, strict=True):
            if given.shape != (count, *wanted[1:]):
                raise ValueError(f"the network takes items of shape {wanted[1:]}, got {given.shape[1:]}")
        ready = [np.ascontiguousarray(given, dtype=np.float32) for given in inputs]
        results = [np.empty((count, *shape[1:]), np.float32) for shape in self._outputs]

        def store(request: Any, start: int) -> None:
            for position, result in enumerate(results):
                part = result[start : start + rows]
                part[:] = request.get_output_tensor(position).data[: len(part)]

        with self._lock:
            self._queue.set_callback(store)
            for start in range(0, count, rows):
                parts = [_filled(array[start : start + rows], rows) for array in ready]
                self._queue.start_async(dict(enumerate(parts)), start, share_inputs=True)
            self._queue.wait_all()
        return results


def _filled(part: Array, rows: int) -> Array:
    """A request's items, with zeros behind them up to its number of rows."""
    if len(part) == rows:
        return part
    whole = np.zeros((rows, *part.shape[1:]), part.dtype)
    whole[: len(part)] = part
    return whole
