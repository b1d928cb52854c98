"""The frozen image encoder: pixels in, feature maps or vectors out."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from offnominal.core.seeds import generator
from offnominal.core.threads import budget
from offnominal.encoders import efficientnet_lite as lite
from offnominal.encoders import resnet as residual
from offnominal.encoders.checkpoint import read_checkpoint
from offnominal.encoders.graph import to_onnx
from offnominal.encoders.heads import Head
from offnominal.encoders.mobilenet_v2 import mobilenet_v2
from offnominal.encoders.network import Array, Network, check_state, random_state, shapes
from offnominal.encoders.runtime import Program, Recent, Runtime, choose, load_runtime
from offnominal.encoders.weights import resolve

if TYPE_CHECKING:
    import onnx
    import torch

DEFAULT = "efficientnet_lite2"
RANDOM = "random"

_BUILDERS: dict[str, Callable[[], Network]] = {
    **{name: partial(lite.efficientnet_lite, name) for name in lite.VARIANTS},
    "mobilenet_v2": mobilenet_v2,
    **{name: partial(residual.resnet, name) for name in residual.VARIANTS},
}
_SIDES = (32, 4096)


def encoder_names() -> list[str]:
    """Names `image_encoder` knows, sorted."""
    return sorted(_BUILDERS)


def network(name: str) -> Network:
    """The layer table of an encoder.

    Raises
    ------
    ValueError
        There is no encoder of that name.
    """
    if name not in _BUILDERS:
        raise ValueError(f"no image encoder is called {name!r}; there are {', '.join(encoder_names())}")
    return _BUILDERS[name]()


class ImageEncoder:
    """A frozen network at one size; made by `image_encoder`.

    Attributes
    ----------
    name : str
    levels : tuple of str
        Levels taken, in order.
    size : (int, int)
        Height and width of the pixels, in pixels.
    shapes : tuple of tuple of int
        Shape of each output for one image: (h, w, c) or (c,).
    runtime, precision : str
        What computes, and in which numbers.
    fingerprint : str
        SHA-256 of the weights, "random" for random ones.
    """

    def __init__(
        self,
        name: str,
        levels: tuple[str, ...],
        program: Program,
        runtime: str,
        precision: str,
        fingerprint: str,
    ) -> None:
        self.name = name
        self.levels = levels
        self.size = program.size
        self.shapes = tuple(program.shapes())
        self.runtime = runtime
        self.precision = precision
        self.fingerprint = fingerprint
        self._program = program
        self._runtimes: dict[str, Runtime] = {}
        self._lock = threading.Lock()

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each output."""
        return tuple(shape[-1] for shape in self.shapes)

    @property
    def grids(self) -> tuple[tuple[int, ...], ...]:
        """Positions (h, w) of each output, () for a vector."""
        return tuple(shape[:-1] for shape in self.shapes)

    def encode(self, pixels: Array) -> list[Array]:
        """Compute the features of images.

        Parameters
        ----------
        pixels : (n, h, w, 3) array of uint8, or of float32 in 0…255
            RGB, at the encoder's size.

        Returns
        -------
        list of float32 arrays
            (n, h, w, c) or (n, c), one a level, or what the head makes of them. An image's result does not
            depend on the images beside it.

        Raises
        ------
        ValueError
            The pixels have another shape or type, or are not finite.
        """
        pixels = np.asarray(pixels)
        if pixels.ndim != 4 or pixels.shape[1:] != (*self.size, 3):
            raise ValueError(f"pixels must be (n, {self.size[0]}, {self.size[1]}, 3), got {pixels.shape}")
        if pixels.dtype not in (np.uint8, np.float32):
            raise ValueError(f"pixels must be uint8 or float32 in 0…255, got {pixels.dtype}")
        if pixels.dtype == np.float32 and not np.isfinite(pixels).all():
            raise ValueError("pixels must be finite")
        return self._compiled(pixels.dtype.name).run(np.ascontiguousarray(pixels))

    def graph(self, *, dtype: str = "uint8", batch: int | None = None) -> onnx.ModelProto:
        """The encoder with its head as an ONNX model, pixels in, for an export to build on."""
        program = self._program
        return to_onnx(
            program.nodes,
            program.outputs,
            program.state,
            program.size,
            batch=batch,
            dtype=dtype,
            name=self.name,
        )

    def module(self) -> torch.nn.Module:
        """A fresh torch module of the encoder with its head, for methods that train on or through it."""
        from offnominal.encoders.torch_network import to_torch

        return to_torch(self._program.nodes, self._program.outputs, self._program.state)

    def _compiled(self, dtype: str) -> Runtime:
        with self._lock:
            if dtype not in self._runtimes:
                self._runtimes[dtype] = load_runtime(self._program, self.runtime, self.precision, dtype=dtype)
            return self._runtimes[dtype]


_ENCODERS: Recent[ImageEncoder] = Recent(8)


def image_encoder(
    name: str = DEFAULT,
    *,
    levels: Sequence[str | int] | None = None,
    size: int | tuple[int, int] = (256, 256),
    runtime: str = "auto",
    precision: str = "auto",
    head: Head | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> ImageEncoder:
    """A frozen image encoder, taken from the process's cache where it was made before.

    Parameters
    ----------
    name : str, default "efficientnet_lite2"
        One of `encoder_names`.
    levels : sequence of str or int, optional
        Values to tap, from the finest to the coarsest as a rule: see the network's own page for their names;
        "pooled" is the embedding before the classifier, "logits" its output over 1000 ImageNet classes. Left
        out, the network's two default levels.
    size : int or (int, int), default (256, 256)
        Height and width of the pixels, 32 to 4096.
    runtime : {"auto", "openvino", "onnxruntime", "torch"}
        "auto" takes the first one installed. "torch" uses a GPU where there is one.
    precision : {"auto", "fp32", "bf16"}
        "auto" takes bf16 where OpenVINO runs on a processor with instructions for it and the network bears
        it (`Network.bf16`: the residual networks do, those with linear bottlenecks do not), else fp32.
    head : Head, optional
        Post-processing inside the same graph: `PatchHead`, `PoolHead`.
    weights : path-like, optional
        See `weights.resolve`; "random" draws them from a fixed seed, for tests and random-feature baselines.

    Returns
    -------
    ImageEncoder

    Raises
    ------
    ValueError
        A name, level or size is not known.
    WeightsUnavailable
        The weights are not on this machine; the message says how to get them.
    CheckpointRefused
        The weights file is damaged or not of this network.
    ExtraMissing
        The runtime asked for is not installed.
    """
    table = network(name)
    taken = tuple(str(level) for level in (table.levels if levels is None else levels))
    unknown = [level for level in taken if level not in table.taps]
    if unknown or not taken or len(set(taken)) < len(taken):
        raise ValueError(
            f"{name} has no levels {list(taken)}; choose different ones of {', '.join(table.taps)}"
        )
    sides = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if not all(_SIDES[0] <= side <= _SIDES[1] for side in sides):
        raise ValueError(f"size must be {_SIDES[0]} to {_SIDES[1]} pixels a side, got {sides}")
    runtime, precision = choose(runtime, precision, tolerant=table.bf16)
    found = None if weights == RANDOM else resolve(name, weights)
    origin = (RANDOM,) if found is None else (found.path, found.path.stat().st_mtime_ns, found.sha256)
    key = (name, taken, sides, runtime, precision, head, origin, budget())

    def build() -> ImageEncoder:
        state, fingerprint = _state(table, None if found is None else (found.path, found.sha256))
        nodes, outputs = table.nodes, tuple(table.taps[level] for level in taken)
        if head is not None:
            added = head.extend(outputs, shapes(nodes, sides))
            nodes, outputs = nodes + added.nodes, added.outputs
            state = {**state, **added.tensors}
        program = Program(nodes, outputs, state, sides)
        return ImageEncoder(name, taken, program, runtime, precision, fingerprint)

    return _ENCODERS.get(key, build)


def _state(table: Network, source: tuple[Path, str] | None) -> tuple[dict[str, Array], str]:
    """The checked tensors of a network and the hash of where they come from."""
    if source is None:
        return random_state(table, generator(0, "encoders", table.name)), RANDOM
    from offnominal.core.store import sha256

    path, pin = source
    return check_state(table, read_checkpoint(path, sha256=pin), str(path)), sha256(path)
