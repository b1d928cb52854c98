"""MambaAD: features of normal images, given back by a decoder of state-space scans (S050)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from offnominal.core.card import card
from offnominal.encoders.heads import Addition
from offnominal.encoders.network import Shape
from offnominal.image.encoded import Precision
from offnominal.image.features import Features
from offnominal.image.trained import Budget, TrainedImageDetector

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class _Levels:
    """The encoder's levels as they are."""

    def extend(self, levels: Sequence[str], shapes: Mapping[str, Shape]) -> Addition:
        return Addition((), tuple(levels), {})


@card(
    "mambaad",
    row="S050",
    title="MambaAD: Exploring State Space Models for Multi-class Unsupervised Anomaly Detection",
    year=2024,
    url="https://arxiv.org/abs/2404.06564",
    kind="detector",
    modality="image",
    setting=("full-shot", "multi-class"),
    supervision="normal-only",
    scope="item",
    localises=True,
    trains=True,
    explains=("reconstruction",),
    extra="torch",
)
class MambaAD(TrainedImageDetector):
    """Angle between features and what a state-space decoder makes of them; one model for many products.

    The decoder sees all levels through a narrow bottleneck and gives each of them back. Scans in several
    directions carry what is far apart, depth-wise convolutions beside them what is near.

    Parameters
    ----------
    encoder : str, default "efficientnet_lite2"
        Frozen image encoder.
    levels : tuple of int or str, optional
        Its levels, fine to coarse; None takes the budget's.
    image_size : int, default 256
        Side of the square the images are scaled to, in pixels.
    budget : {"cpu", "paper"}, default "cpu"
        What stands for the parameters that are None. "cpu" has two levels, one block a stage, four
        directions and four numbers of state: scans are memory traffic, which a CPU has little of.
    scan : {"hilbert", "sweep", "serpentine"}, default "hilbert"
        Order in which the grid is scanned; one at a time.
    directions : {1, 2, 4, 8}, optional
        Directions of each scan.
    cascade : int, optional
        Scan blocks one after another in each block.
    local : tuple of int, default (5, 7)
        Kernels of the parallel depth-wise convolutions; () leaves the local branches out.
    width : int, optional
        Channels of the decoder; 0 takes each level's own.
    depths : tuple of int, optional
        Blocks at the bottleneck, then at each level from coarse to fine.
    state : int, optional
        Numbers of state a channel.
    steps : int, optional
        Batches of training.
    batch : int, optional
        Views a batch.
    learning_rate : float, optional
        Of AdamW; a tenth of it for the last fifth of the training.
    smoothing : float, default 4.0
        Standard deviation of the map's Gaussian smoothing, in model pixels; the score is that map's largest
        value.
    memory_budget : int, default 256
        Mebibytes of features held while fitting.
    tile : int, optional
        Cut larger images into overlapping square tiles of this side.
    runtime, precision : str, default "auto"
        Runtime and precision of the encoder.
    weights : str, optional
        File or folder of the encoder's weights, or "random"; None takes those that are installed.
    seed : int, default 0

    Notes
    -----
    Differences from the paper: EfficientNet-Lite2 instead of ResNet-34. Each channel is brought to mean 0 and
    deviation 1 over the training images first, because the channels of linear bottlenecks differ in size by
    orders of magnitude. Scans keep the width inside instead of widening it. A Hilbert curve on a grid that
    is no power-of-two square is that of the square around it, less the cells outside.

    Source: He et al., NeurIPS 2024.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {
            "levels": ("6", "14"),
            "directions": 4,
            "cascade": 1,
            "width": 32,
            "depths": (1, 1, 1),
            "state": 4,
            "steps": 500,
            "batch": 4,
            "learning_rate": 3e-3,
        },
        "paper": {
            "levels": ("3", "6", "14"),
            "directions": 8,
            "cascade": 3,
            "width": 0,
            "depths": (3, 4, 6, 3),
            "state": 16,
            "steps": 22_000,
            "batch": 16,
            "learning_rate": 5e-3,
        },
    }

    def __init__(
        self,
        encoder: str = "efficientnet_lite2",
        levels: tuple[int | str, ...] | None = None,
        image_size: int = 256,
        budget: Budget = "cpu",
        scan: Literal["hilbert", "sweep", "serpentine"] = "hilbert",
        directions: Literal[1, 2, 4, 8] | None = None,
        cascade: int | None = None,
        local: tuple[int, ...] = (5, 7),
        width: int | None = None,
        depths: tuple[int, ...] | None = None,
        state: int | None = None,
        steps: int | None = None,
        batch: int | None = None,
        learning_rate: float | None = None,
        smoothing: float = 4.0,
        memory_budget: int = 256,
        tile: int | None = None,
        runtime: str = "auto",
        precision: Precision = "auto",
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        self.encoder = encoder
        self.levels = levels
        self.image_size = image_size
        self.budget = budget
        self.scan = scan
        self.directions = directions
        self.cascade = cascade
        self.local = local
        self.width = width
        self.depths = depths
        self.state = state
        self.steps = steps
        self.batch = batch
        self.learning_rate = learning_rate
        self.smoothing = smoothing
        self.memory_budget = memory_budget
        self.tile = tile
        self.runtime = runtime
        self.precision = precision
        self.weights = weights
        self.seed = seed

    def _head(self) -> _Levels:
        return _Levels()

    def _levels(self) -> Sequence[int | str]:
        levels: Sequence[int | str] = self._setting("levels")
        return levels

    def _train(self, features: Features) -> torch.nn.Module:
        import torch

        from offnominal.image.networks.mambaad import Decoder, Scored, standardised
        from offnominal.image.networks.standard import Standard
        from offnominal.nets.batches import minibatches
        from offnominal.nets.schedules import drops
        from offnominal.nets.seeding import seeded

        depths = tuple(self._setting("depths"))
        if len(depths) != len(features.shapes) + 1:
            raise ValueError(
                f"depths {depths} need one number for the bottleneck and one for each of "
                f"{len(features.shapes)} levels"
            )
        standards = [Standard(m, d) for m, d in zip(features.means, features.deviations, strict=True)]
        channels = [shape[-1] for shape in reversed(features.shapes)]
        inside = int(self._setting("width"))
        with seeded(self.seed, "mambaad"):
            decoder = Decoder(
                features.shapes,
                [inside] * len(depths) if inside else [2 * channels[0], *channels],
                depths,
                scan=self.scan,
                directions=int(self._setting("directions")),
                state=int(self._setting("state")),
                cascade=int(self._setting("cascade")),
                local=self.local,
            )

        def step(levels: list[torch.Tensor]) -> torch.Tensor:
            given = standardised(standards, levels)
            apart = [(a - b).square().mean() for a, b in zip(decoder(given), given, strict=True)]
            return 5 * torch.stack(apart).sum()

        self._run(
            decoder,
            step,
            minibatches(features.count, int(self._setting("batch")), lambda at, _: features.take(at)),
            torch.optim.AdamW(
                decoder.parameters(), lr=float(self._setting("learning_rate")), weight_decay=1e-4
            ),
            steps=int(self._setting("steps")),
            schedule=drops(0.8),
            frozen=standards,
        )
        return Scored(standards, decoder, self.image_size, self.smoothing)
