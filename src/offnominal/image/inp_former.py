"""INP-Former: prototypes of what is normal, drawn from the test image itself (S054)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from offnominal.core.card import card
from offnominal.core.seeds import generator
from offnominal.encoders import PatchHead
from offnominal.encoders.image import network
from offnominal.encoders.network import shapes
from offnominal.image.encoded import Precision
from offnominal.image.features import Features
from offnominal.image.maps import operator
from offnominal.image.trained import Budget, TrainedImageDetector

if TYPE_CHECKING:
    import torch

ROWS = 10_000  # tokens whose principal components make the projection


@card(
    "inp_former",
    row="S054",
    title="Exploring Intrinsic Normal Prototypes within a Single Image for Universal Anomaly Detection",
    year=2025,
    url="https://arxiv.org/abs/2503.02424",
    kind="detector",
    modality="image",
    setting=("full-shot", "multi-class", "few-shot"),
    supervision="normal-only",
    scope="item",
    localises=True,
    trains=True,
    explains=("reconstruction",),
    extra="torch",
)
class INPFormer(TrainedImageDetector):
    """Rebuilds an image's features from a few prototypes of its own normal parts: one model, many products.

    Parameters
    ----------
    encoder : str, default "efficientnet_lite2"
        Frozen image encoder.
    levels : tuple of int or str, optional
        Levels of the encoder, split in order into two groups of targets; None takes "6", "10", "14" and "20",
        or the default ones of an encoder that has not all of these.
    image_size : int, default 256
        Side of the square the images are scaled to, in pixels.
    stride : int, default 16
        Pixels between tokens.
    prototypes : int, default 6
        Prototypes drawn from each image.
    coherence : float, default 0.2
        Weight of the coherence loss, which draws prototypes towards the image's tokens; 0 leaves it out.
    mining : float, default 3.0
        Power of the soft-mining loss; 0 treats all places alike.
    attention : {"relu", "softmax"}, default "relu"
        How decoder tokens attend to prototypes.
    residual : bool, default False
        Add a decoder token to what attention gives it: the way by which anomalies could be copied.
    scoring : {"reconstruction", "prototypes"}, default "reconstruction"
        "prototypes" scores the distance of each token to its nearest prototype and leaves the decoder out:
        the zero-shot mode, for a model fitted on other products.
    top : float, default 0.01
        Share of the map's pixels whose mean is the image score.
    budget : {"cpu", "paper"}
        Fills ``width``, ``depth``, ``steps``, ``batch`` and ``rate`` where they are None.
    width : int, optional
        Channels of a token, at most those of the joined levels; a multiple of 8.
    depth : int, optional
        Decoder blocks.
    steps : int, optional
        Optimiser steps.
    batch : int, optional
        Images a step.
    rate : float, optional
        First learning rate; it falls to a tenth.
    smoothing : float, default 4.0
        Standard deviation of the map's Gaussian smoothing, in model pixels.
    memory_budget : int, default 512
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
    Differences from the paper: its encoder is DINOv2 with registers, whose layers all have one width and are
    averaged. There are no such weights in the install, so here tokens are the joined levels of a
    convolutional encoder, each channel brought to mean 0 and deviation 1, fused by their principal components
    (fixed, not learned), and a linear layer a group leads back to the levels. AdamW stands in for
    StableAdamW. "cpu" has half the decoder and trains for minutes.

    Source: Luo et al., CVPR 2025.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {"width": 256, "depth": 4, "steps": 300, "batch": 8, "rate": 1e-3},
        "paper": {"width": 768, "depth": 8, "steps": 5_000, "batch": 16, "rate": 1e-3},
    }
    heads = 8

    def __init__(
        self,
        encoder: str = "efficientnet_lite2",
        levels: tuple[int | str, ...] | None = None,
        image_size: int = 256,
        stride: int = 16,
        prototypes: int = 6,
        coherence: float = 0.2,
        mining: float = 3.0,
        attention: Literal["relu", "softmax"] = "relu",
        residual: bool = False,
        scoring: Literal["reconstruction", "prototypes"] = "reconstruction",
        top: float = 0.01,
        budget: Budget = "cpu",
        width: int | None = None,
        depth: int | None = None,
        steps: int | None = None,
        batch: int | None = None,
        rate: float | None = None,
        smoothing: float = 4.0,
        memory_budget: int = 512,
        tile: int | None = None,
        runtime: str = "auto",
        precision: Precision = "auto",
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        self.encoder = encoder
        self.levels = levels
        self.image_size = image_size
        self.stride = stride
        self.prototypes = prototypes
        self.coherence = coherence
        self.mining = mining
        self.attention = attention
        self.residual = residual
        self.scoring = scoring
        self.top = top
        self.budget = budget
        self.width = width
        self.depth = depth
        self.steps = steps
        self.batch = batch
        self.rate = rate
        self.smoothing = smoothing
        self.memory_budget = memory_budget
        self.tile = tile
        self.runtime = runtime
        self.precision = precision
        self.weights = weights
        self.seed = seed

    def _levels(self) -> tuple[int | str, ...]:
        if self.levels is not None:
            return self.levels
        table = network(self.encoder)
        wanted = ("6", "10", "14", "20")
        return wanted if set(wanted) <= set(table.taps) else table.levels

    def _head(self) -> PatchHead:
        side = max(1, self.image_size // self.stride)
        return PatchHead(neighbourhood=1, grid=(side, side))

    def _groups(self) -> list[int]:
        """Channels of the first and of the second half of the levels."""
        table = network(self.encoder)
        known = shapes(table.nodes, (self.image_size, self.image_size))
        widths = [known[table.taps[str(level)]][0] for level in self._levels()]
        half = len(widths) // 2
        return [channels for channels in (sum(widths[:half]), sum(widths[half:])) if channels]

    def _train(self, features: Features) -> torch.nn.Module:
        import torch

        from offnominal.image.networks.inp_former import PrototypeFormer, Scorer, mined, nearest
        from offnominal.image.networks.standard import Standard
        from offnominal.nets.batches import minibatches
        from offnominal.nets.schedules import cosine
        from offnominal.nets.seeding import seeded

        scale = Standard(features.means[0], features.deviations[0])
        with seeded(self.seed, "network"):
            former = PrototypeFormer(
                scale,
                self._fusion(scale, features),
                self._groups(),
                prototypes=self.prototypes,
                depth=self._setting("depth"),
                heads=self.heads,
                relu=self.attention == "relu",
                residual=self.residual,
            )

        def step(batch: list[torch.Tensor]) -> torch.Tensor:
            scaled, tokens, prototypes = former.prototypes(batch[0])
            pairs = zip(former.targets(scaled), former.rebuild(tokens, prototypes), strict=True)
            loss = torch.stack([mined(target, found, self.mining) for target, found in pairs]).mean()
            return loss + self.coherence * nearest(tokens, prototypes).mean()

        self._run(
            former.train(),
            step,
            minibatches(features.count, min(features.count, self._setting("batch")), self._drawn(features)),
            torch.optim.AdamW(former.parameters(), self._setting("rate"), weight_decay=1e-4),
            steps=self._setting("steps"),
            schedule=cosine(0.1, warmup=0.05),
            clip=0.1,
        )
        side = operator(features.shapes[0][0], self.image_size, self.image_size, self.smoothing)
        return Scorer(former, torch.tensor(side), by_prototypes=self.scoring == "prototypes", top=self.top)

    def _drawn(self, features: Features) -> Any:
        return lambda indices, random: features.take(indices)

    def _fusion(self, scale: torch.nn.Module, features: Features) -> torch.Tensor:
        """Principal axes (c, width) of the scaled channels."""
        import torch

        rows = scale(torch.from_numpy(features.rows(ROWS, generator(self.seed, "inp_former", "fusion"))))
        channels = rows.shape[1]
        width = min(self._setting("width"), channels) // self.heads * self.heads
        _, axes = np.linalg.eigh(np.cov(rows.numpy().T.astype(np.float64)))
        return torch.tensor(axes[:, ::-1][:, :width].copy(), dtype=torch.float32)
