"""What runs an encoder's graph: OpenVINO, onnxruntime or torch, behind one interface.

Every runtime computes each image in a shape that does not depend on the call (alone, or in a padded batch of
fixed size), so the result for an image does not depend on the images beside it.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from offnominal.core.errors import ExtraMissing
from offnominal.core.threads import budget
from offnominal.encoders.graph import to_onnx
from offnominal.encoders.network import Array, Node, Shape, shapes

RUNTIMES = ("openvino", "onnxruntime", "torch")
PRECISIONS = ("fp32", "bf16")
_EXTRAS = {"onnxruntime": "onnx", "torch": "torch"}

T = TypeVar("T")


class Recent(Generic[T]):
    """The most recently used values by key; building one does not happen twice at once."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Hashable, build: Callable[[], T]) -> T:
        """The value of a key, built where it is not there."""
        with self._lock:
            if key not in self._values:
                self._values[key] = build()
                while len(self._values) > self._capacity:
                    self._values.popitem(last=False)
            self._values.move_to_end(key)
            return self._values[key]


@dataclass(frozen=True)
class Program:
    """A table with its tensors, its outputs and the size it runs at: all a runtime needs."""

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    state: Mapping[str, Array]
    size: tuple[int, int]

    def shapes(self) -> list[Shape]:
        """Shape of each output without the batch, channels last."""
        known = shapes(self.nodes, self.size)
        return [(*known[name][1:], known[name][0]) for name in self.outputs]


class Runtime(ABC):
    """Runs a program. ``run`` may be called from several threads."""

    kind: ClassVar[str]

    def __init__(self, precision: str, outputs: list[Shape]) -> None:
        self.precision = precision
        self.outputs = outputs

    def run(self, pixels: Array) -> list[Array]:
        """Compute all outputs.

        Parameters
        ----------
        pixels : (n, h, w, 3) array
            Of the type and size the runtime was made for.

        Returns
        -------
        list of (n, …) float32 arrays, channels last
        """
        results = [np.empty((len(pixels), *shape), np.float32) for shape in self.outputs]
        if len(pixels):
            self._run(pixels, results)
        return results

    @abstractmethod
    def _run(self, pixels: Array, results: list[Array]) -> None:
        """Fill ``results``."""


class OpenVINORuntime(Runtime):
    """One image a request, one request a thread: measured as fast as any fixed batch, and never padded."""

    kind = "openvino"

    def __init__(self, model: bytes, precision: str, threads: int, outputs: list[Shape]) -> None:
        super().__init__(precision, outputs)
        import openvino

        core = _openvino_core()
        compiled = core.compile_model(
            core.read_model(model),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": threads,
            },
        )
        self._queue = openvino.AsyncInferQueue(compiled, threads)
        self._lock = threading.Lock()

    def _run(self, pixels: Array, results: list[Array]) -> None:
        def store(request: Any, index: int) -> None:
            for position, result in enumerate(results):
                result[index] = request.get_output_tensor(position).data[0]

        with self._lock:
            self._queue.set_callback(store)
            for index in range(len(pixels)):
                self._queue.start_async({0: pixels[index : index + 1]}, index, share_inputs=True)
            self._queue.wait_all()


class OnnxRuntime(Runtime):
    """One image a run, one run a thread."""

    kind = "onnxruntime"

    def __init__(self, model: bytes, threads: int, outputs: list[Shape]) -> None:
        super().__init__("fp32", outputs)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._pool = ThreadPoolExecutor(threads)

    def _run(self, pixels: Array, results: list[Array]) -> None:
        def one(index: int) -> None:
            values = self._session.run(None, {self._input: pixels[index : index + 1]})
            for result, value in zip(results, values, strict=True):
                result[index] = value[0]

        list(self._pool.map(one, range(len(pixels))))


class TorchRuntime(Runtime):
    """Padded batches of a fixed size, on the GPU where there is one."""

    kind = "torch"
    batch = 16

    def __init__(self, program: Program, precision: str) -> None:
        super().__init__(precision, program.shapes())
        import torch

        from offnominal.encoders.torch_network import to_torch

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        module = to_torch(program.nodes, program.outputs, program.state).to(self.device)
        self._module = module.requires_grad_(False)

    def _run(self, pixels: Array, results: list[Array]) -> None:
        import torch

        low = torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16")
        for start in range(0, len(pixels), self.batch):
            part = pixels[start : start + self.batch]
            padded = np.zeros((self.batch, *part.shape[1:]), part.dtype)
            padded[: len(part)] = part
            with torch.inference_mode(), low:
                values = self._module(torch.from_numpy(padded).to(self.device))
            for result, value in zip(results, values, strict=True):
                last = value.movedim(1, -1).float().cpu().numpy()
                result[start : start + len(part)] = last[: len(part)]


_COMPILED: Recent[Runtime] = Recent(8)
_CORE: list[Any] = []


def _openvino_core() -> Any:
    """The process's one OpenVINO core: making one scans for devices."""
    if not _CORE:
        import openvino

        _CORE.append(openvino.Core())
    return _CORE[0]


def installed(kind: str) -> bool:
    """Whether a runtime's package is there, without importing it."""
    return find_spec(kind) is not None


def choose(kind: str, precision: str, *, tolerant: bool) -> tuple[str, str]:
    """Settle "auto": the first runtime installed; bf16 where the processor has it and the network bears it.

    ``tolerant`` is `Network.bf16`.

    Raises
    ------
    ExtraMissing
        The runtime asked for is not installed.
    ValueError
        A name is not known, or the runtime cannot compute in the precision asked for.
    """
    if kind not in ("auto", *RUNTIMES):
        raise ValueError(f"runtime must be auto, {', '.join(RUNTIMES)}; got {kind!r}")
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(f"precision must be auto, {', '.join(PRECISIONS)}; got {precision!r}")
    if kind == "auto":
        kind = next((name for name in RUNTIMES if installed(name)), "onnxruntime")
    if not installed(kind):
        raise ExtraMissing(_EXTRAS.get(kind, "onnx"), f"the runtime {kind}")
    if precision == "auto":
        precision = "bf16" if kind == "openvino" and tolerant and computes_bf16() else "fp32"
    if kind == "onnxruntime" and precision == "bf16":
        raise ValueError("onnxruntime computes these graphs in fp32 only; use openvino or torch for bf16")
    return kind, precision


def computes_bf16() -> bool:
    """Whether OpenVINO computes in bfloat16 on this processor, by instructions made for it.

    OpenVINO also names bf16 where it is emulated, which is slower than fp32; the processor's own flags tell
    where the system shows them.
    """
    if "BF16" not in _openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return False
    flags = cpu_flags()
    return flags is None or bool(flags & {"amx_bf16", "avx512_bf16"})


def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str] | None:
    """Instruction sets of the processor, or None where the system does not list them."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.partition(":")[2].split())
    except OSError:
        return None
    return None


def load_runtime(program: Program, kind: str, precision: str, *, dtype: str = "uint8") -> Runtime:
    """Compile a program, or take it from the process's cache.

    Parameters
    ----------
    program : Program
    kind : {"openvino", "onnxruntime", "torch"}
    precision : {"fp32", "bf16"}
    dtype : {"uint8", "float32"}
        Type of the pixels that will come.

    Notes
    -----
    Threads are the process's budget (`core.threads.budget`). The cache's key is the hash of the graph with
    its weights, the runtime, the precision and the threads.
    """
    threads = budget()
    graph = to_onnx(program.nodes, program.outputs, program.state, program.size, batch=1, dtype=dtype)
    model = graph.SerializeToString(deterministic=True)
    key = (hashlib.sha256(model).hexdigest(), kind, precision, threads)

    def build() -> Runtime:
        if kind == "openvino":
            return OpenVINORuntime(model, precision, threads, program.shapes())
        if kind == "onnxruntime":
            return OnnxRuntime(model, threads, program.shapes())
        return TorchRuntime(program, precision)

    return _COMPILED.get(key, build)
