"""Image detectors that go on training their encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from offnominal.encoders.image import network
from offnominal.encoders.network import Node
from offnominal.encoders.runtime import choose
from offnominal.image.detector import ImageBatch
from offnominal.image.features import Features
from offnominal.image.trained import TrainedImageDetector
from offnominal.normality import greedy_coreset

if TYPE_CHECKING:
    import torch

    from offnominal.image.export.graph import Graph, Value

Array = npt.NDArray[Any]


class FineTunedImageDetector(TrainedImageDetector):
    """Base of image detectors whose network, kept as ONNX, holds the fine-tuned encoder: it takes pixels.

    After fitting, the encoder's own weights are not needed.

    Parameters every such detector has
    ----------------------------------
    frozen : str or None
        Level of the encoder up to which nothing is trained; None trains all of it.
    bank_size : int
        Embeddings of normal images kept to compare with; a coreset of them beyond that.
    """

    frozen: str | None
    bank_size: int

    def _inputs(self, batch: ImageBatch) -> list[Array]:
        return [batch.pixels]

    def _graph_inputs(self, graph: Graph) -> list[Value]:
        return [graph.pixels]

    @property
    def _computes_in(self) -> str:
        return choose("openvino", self.precision, tolerant=network(self.encoder).bf16)[1]

    def _environment(self) -> dict[str, Any]:
        return {"runtime": "openvino", "precision": self._computes_in}

    def _restored(self) -> None:
        from offnominal.nets.compiled import Compiled

        self._network = Compiled(self.network_, self._computes_in)

    def _freeze(self, module: Any) -> list[torch.nn.Parameter]:
        """Freeze the layers of an encoder's torch module up to a level; return what is left to train."""
        table = network(self.encoder)
        if self.frozen is not None and self.frozen not in table.taps:
            raise ValueError(f"{self.encoder} has no level {self.frozen!r} to freeze up to")
        early: set[str] = set()
        if self.frozen is not None:
            early = {_key(node) for node in table.nodes[: _place(table.nodes, table.taps[self.frozen]) + 1]}
        moved: list[torch.nn.Parameter] = []
        for name, layer in module.layers.items():
            layer.requires_grad_(name not in early)
            moved += layer.parameters() if name not in early else []
        if not moved:
            raise ValueError(f"nothing of {self.encoder} is left to train beyond level {self.frozen!r}")
        return moved

    def _embeddings(self, features: Features, embed: Any) -> npt.NDArray[np.float32]:
        """Embeddings (m, d) of the training views by a torch module of pixels, at most ``bank_size``."""
        import torch

        blocks = []
        with torch.inference_mode():
            for first in range(0, features.count, 8):
                views = features.pixels(range(first, min(first + 8, features.count)))
                blocks.append(embed(torch.from_numpy(views)).numpy())
        rows = np.concatenate(blocks)
        if len(rows) <= self.bank_size:
            return rows
        return rows[greedy_coreset(rows, self.bank_size, seed=self.seed)]


def _key(node: Node) -> str:
    return node.out.replace(".", "_")  # as `encoders.torch_network` names its layers


def _place(nodes: tuple[Node, ...], name: str) -> int:
    return next(place for place, node in enumerate(nodes) if node.out == name)
