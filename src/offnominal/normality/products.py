"""Blocks of half squared distances by matrix product, on the fastest engine there is."""

from __future__ import annotations

import threading
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

Precision = Literal["bf16", "fp32"]
FAR = np.float32(1e38)  # half squared norm of padding columns


class Products(Protocol):
    """Computes ``‖b‖²/2 − q·b`` for rows b of a fixed bank, with a known rounding."""

    precision: Precision
    one_core: bool  # a call keeps one core busy, so that calls should run side by side

    def __call__(self, queries: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Values (q, m) for queries (q, d); valid until the next call in this thread."""


def to_bf16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Round to the nearest bfloat16 (ties to even), kept in float32."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


def supports_bf16() -> bool:
    """Whether OpenVINO is installed and this processor multiplies bfloat16 natively."""
    try:
        import openvino
    except ImportError:
        return False
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def products(
    bank: npt.NDArray[np.float32], halves: npt.NDArray[np.float32], precision: Precision, threads: int
) -> Products:
    """Engine for a bank (m, d) and its half squared norms (m,)."""
    if bank.size >= CompiledProducts.worth:
        try:
            return CompiledProducts(bank, halves, precision, threads)
        except ImportError:
            pass
    return BlasProducts(bank, halves)


class BlasProducts:
    """Products through numpy's BLAS, in single precision."""

    precision: Precision = "fp32"
    one_core = False

    def __init__(self, bank: npt.NDArray[np.float32], halves: npt.NDArray[np.float32]) -> None:
        self._transposed = -bank.T
        self._halves = halves

    def __call__(self, queries: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Values (q, m) for queries (q, d)."""
        values = queries @ self._transposed
        values += self._halves
        return values


class CompiledProducts:
    """Products through an OpenVINO graph with the bank as its constant."""

    one_core = True
    block = 256  # rows of a query block: the graph's fixed shape
    worth = 2**16  # numbers in the bank from which compiling pays

    def __init__(
        self,
        bank: npt.NDArray[np.float32],
        halves: npt.NDArray[np.float32],
        precision: Precision,
        threads: int,
    ) -> None:
        import openvino as ov
        from openvino import opset13 as op

        self.precision = precision
        queries = op.parameter([self.block, bank.shape[1]], ov.Type.f32)
        product = op.matmul(queries, op.constant(-bank), False, True)
        values = op.add(product, op.constant(halves[None]))
        self._compiled: Any = ov.Core().compile_model(
            ov.Model([values], [queries]),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": threads,
            },
        )
        self._requests = threading.local()

    def __call__(self, queries: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Values (q, m) for at most ``block`` queries (q, d)."""
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._compiled.create_infer_request()
        count = len(queries)
        if count < self.block:
            padded = np.zeros((self.block, queries.shape[1]), np.float32)
            padded[:count] = queries
            queries = padded
        values: npt.NDArray[np.float32] = request.infer(
            [np.ascontiguousarray(queries)], share_inputs=True, share_outputs=True
        )[0]
        return values[:count]
