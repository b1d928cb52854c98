"""Image detectors that train a network on the features of a frozen encoder."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import ExtraMissing
from offnominal.core.source import Source
from offnominal.image.detector import ImageBatch
from offnominal.image.encoded import EncodedImageDetector
from offnominal.image.features import Features

if TYPE_CHECKING:
    import torch

    from offnominal.image.export.graph import Graph, Value
    from offnominal.nets.compiled import Compiled
    from offnominal.nets.training import History

Array = npt.NDArray[Any]
Budget = Literal["cpu", "paper"]


class TrainedImageDetector(EncodedImageDetector):
    """Base of image detectors that train a network on frozen features; its card says ``trains=True``.

    A method implements `_train`, which returns a network from one view's features, as `_inputs` gives them,
    to a score (n,) and, where it localises, a grid (n, h, w). The network is kept as ONNX and runs without
    torch, item by item, after fitting and in exports.

    Parameters every trained image detector has
    -------------------------------------------
    budget : {"cpu", "paper"}
        Which of the class's ``PRESETS`` fills the parameters that are None: "cpu" fits a class of 200 to 400
        images within a few minutes on two cores, "paper" trains as long as the paper does.
    memory_budget : int
        Mebibytes of features held while fitting, see `Features`.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Values by budget and name of a parameter."""

    positions: ClassVar[int | None] = None
    """Random positions of a view that are kept for training; None keeps its whole grid."""

    budget: Budget
    memory_budget: int

    network_: npt.NDArray[np.uint8]
    grid_: list[int]
    _network: Compiled
    _folder: Path | None = None

    # ---------------------------------------------------------------- what a method implements

    def _train(self, features: Features) -> torch.nn.Module:
        """Train on the features, and return the network that scores."""
        raise TypeError(f"{type(self).__name__} does not say how it trains")

    def _inputs(self, batch: ImageBatch) -> list[Array]:
        """What the network takes of a batch, one array (n, …) an input; by default the encoder's outputs."""
        return self.features.encode(batch.pixels)

    def _graph_inputs(self, graph: Graph) -> list[Value]:
        """The same in an export."""
        return graph.encode(self.features)

    # ---------------------------------------------------------------- what it has for that

    def _setting(self, name: str) -> Any:
        """The parameter of that name, or where it is None the budget's."""
        given = getattr(self, name)
        return self.PRESETS[self.budget][name] if given is None else given

    def _run(self, models: Any, step: Any, batches: Any, optimiser: Any, **how: Any) -> History:
        """`nets.training.train` with this method's seed and checkpoint folder, and its name to progress."""
        from offnominal.nets.training import train

        how.setdefault("seed", self.seed)
        how.setdefault("label", f"Training {self.card.name}")
        return train(models, step, batches, optimiser, checkpoint=self._folder, **how)

    # ---------------------------------------------------------------- the rest

    def _fit(self, source: Source, labels: npt.NDArray[np.int8]) -> None:
        if self.budget not in self.PRESETS:
            raise ValueError(f"budget must be {' or '.join(self.PRESETS)}, got {self.budget!r}")
        if find_spec("torch") is None or find_spec("lightning_fabric") is None:
            raise ExtraMissing("torch", f"training {self.card.name}")
        import torch

        from offnominal.nets.devices import torch_threads
        from offnominal.nets.export import to_graph

        features = Features(self, source, budget=self.share * self.memory_budget, positions=self.positions)
        self._folder = self._own_folder(features)
        with torch_threads():
            network = self._train(features)
            (views,) = [self._collate([self._prepare(source.read(0))])]
            example = [torch.from_numpy(given[:1]) for given in self._inputs(views)]
            self.network_ = np.frombuffer(to_graph(network, *example), np.uint8)
        self._restored()
        if self.card.localises:
            self.grid_ = list(self._infer(ImageBatch(views.pixels[:1], []))[1].shape[1:])
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def _own_folder(self, features: Features) -> Path | None:
        """Where this training on these data keeps its progress."""
        if self._checkpoint is None:
            return None
        facts = json.dumps(self.get_params(), sort_keys=True, default=str) + features.digest
        name = hashlib.sha256(facts.encode()).hexdigest()[:16]
        return self._checkpoint / f"{self.card.name}-{name}"

    def _restored(self) -> None:
        from offnominal.nets.compiled import Compiled

        self._network = Compiled(self.network_)

    def _infer(self, batch: ImageBatch) -> tuple[Array, Any]:
        found = self._network(*self._inputs(batch))
        return found[0], found[1] if self.card.localises else None

    def _graph(self, graph: Graph) -> tuple[Value, Value | None]:
        found = graph.network(self.network_, *self._graph_inputs(graph))
        if not self.card.localises:
            return found[0], None
        height, width = self.grid_
        return found[0], graph.map(found[1], (height, width), self.smoothing)
