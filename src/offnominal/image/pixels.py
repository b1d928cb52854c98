"""Base of image methods that train on pixels: no frozen encoder stands before their network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from offnominal.image.detector import ImageBatch
from offnominal.image.trained import TrainedImageDetector

if TYPE_CHECKING:
    import torch

    from offnominal.image.export.graph import Graph, Value
    from offnominal.image.features import Features
    from offnominal.nets.batches import Batches

Array = npt.NDArray[Any]

EPOCH = 50
"""Steps from one place where a training can be resumed to the next."""

SAMPLE = 64
"""Views that the scale of deep features is taken from."""


class Pixels:
    """Stands where others have an encoder: the views themselves are the features that are held."""

    def encode(self, pixels: Array) -> list[Array]:
        """The pixels (n, S, S, 3), unchanged, as float32."""
        return [np.asarray(pixels, np.float32)]


class PixelImageDetector(TrainedImageDetector):
    """Base of image detectors whose network takes pixels (n, S, S, 3) in 0…255 and nothing else.

    Where a method compares deep features, the encoder is a part of its network. Networks run in fp32:
    a difference of two images that are nearly the same has few digits to lose.
    """

    @property
    def features(self) -> Any:
        """The pixels themselves."""
        return Pixels()

    def _graph_inputs(self, graph: Graph) -> list[Value]:
        return [graph.pixels]

    def _inputs(self, batch: ImageBatch) -> list[Array]:
        return [batch.pixels]

    def _environment(self) -> dict[str, Any]:
        return {}  # the network is stored whole, and there is one runtime and precision for it

    def _draws(
        self, features: Features, size: int, change: Callable[[Array, np.random.Generator], Any] | None = None
    ) -> Batches:
        """Batches of ``size`` views drawn at random, with repeats where there are fewer; ``change`` of each.

        Every batch has its full size, so that batch normalisation always has statistics to take.
        """
        from offnominal.nets.batches import Batches

        def draw(epoch: int, random: np.random.Generator) -> Iterator[Any]:
            for _ in range(EPOCH):
                chosen = random.choice(features.count, size, replace=features.count < size)
                (pixels,) = features.take(chosen)
                yield pixels if change is None else change(pixels, random)

        return Batches(EPOCH, draw)

    def _described(self, features: Features, levels: tuple[int | str, ...] | None) -> torch.nn.Module:
        """The frozen encoder's levels of images in [−1, 1], each channel brought to one scale."""
        import torch

        from offnominal.encoders import image_encoder
        from offnominal.image.networks.errors import Described

        encoder = image_encoder(
            self.encoder, levels=levels, size=self.image_size, precision="fp32", weights=self.weights
        )
        few = np.linspace(0, features.count - 1, min(features.count, SAMPLE)).astype(int)
        found = encoder.encode(features.take(few)[0])
        spread = [level.reshape(-1, level.shape[-1]).std(axis=0) for level in found]
        return Described(encoder.module(), [torch.from_numpy(deviation) for deviation in spread])
