"""Where a network trains: device, precision, and the processes that train it together."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator

import torch
from lightning_fabric import Fabric

from offnominal.core.threads import budget

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}


def fabric(device: str, precision: str) -> Fabric:
    """Start Lightning Fabric.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "mps"}
        "auto" takes an accelerator where there is one.
    precision : {"fp32", "bf16"}
        bf16 computes products in bfloat16 and keeps weights and updates in fp32.

    Notes
    -----
    Under ``torchrun`` (one process a device, on one machine or several) the processes train together; else
    this process trains alone, on one device.
    """
    if device not in ("auto", "cpu", "cuda", "mps"):
        raise ValueError(f"device must be auto, cpu, cuda or mps; got {device!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be {' or '.join(PRECISIONS)}; got {precision!r}")
    together = int(os.environ.get("WORLD_SIZE", "1"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    started = Fabric(
        accelerator=device,
        devices=here,
        num_nodes=max(1, together // here),
        strategy="ddp" if together > 1 else "auto",
        precision=PRECISIONS[precision],  # type: ignore[arg-type]
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is available but not used.*")
        started.launch()
    return started


@contextlib.contextmanager
def torch_threads() -> Iterator[None]:
    """Hold torch to the process's thread budget within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(budget())
    try:
        yield
    finally:
        torch.set_num_threads(before)
