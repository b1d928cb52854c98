"""OneNIP: an image is given back as it would be if normal, beside one normal image as a prompt (S062)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.core.progress import track
from offnominal.core.seeds import generator
from offnominal.core.source import Source
from offnominal.data import resize_map
from offnominal.encoders import PatchHead
from offnominal.image.encoded import Precision
from offnominal.image.features import Features
from offnominal.image.trained import Budget, TrainedImageDetector
from offnominal.synth import KINDS
from offnominal.synth.views import plant_in_view

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]


@card(
    "onenip",
    row="S062",
    title="Learning to Detect Multi-class Anomalies with Just One Normal Image Prompt",
    year=2024,
    url="https://arxiv.org/abs/2505.09264",
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
class OneNIP(TrainedImageDetector):
    """Reconstruct features beside those of one normal image, and refine where the two differ.

    A transformer restores the features of an image; its decoder lets them and those of a normal prompt
    attend to each other. It trains on normal images, whose features are jittered, and on images with planted
    defects, whose features before the defect it has to find again. A refiner learns from the planted masks
    to tell the changes that matter.

    Parameters
    ----------
    encoder : str, default "efficientnet_lite2"
        Frozen image encoder.
    levels : tuple of int or str, default ("6", "10", "14", "19")
        Its levels, joined on one grid.
    image_size : int, default 256
        Side of the square the images are scaled to, in pixels.
    grid : int, default 16
        Cells along a side.
    budget : {"cpu", "paper"}, default "cpu"
        What stands for the parameters that are None.
    width, heads, depth : int, optional
        Of the transformer's encoder, and of its decoder.
    steps : int, optional
        Batches of training.
    batch : int, optional
        Normal images a batch; as many with planted defects come to them.
    learning_rate : float, optional
        Of AdamW; a tenth of it for the last fifth of the training.
    synthetic : int, optional
        Images with planted defects; 0 trains on jittered features alone, without a refiner.
    prompted : bool, default True
        Whether the decoder sees the prompt.
    bidirectional : bool, default True
        Whether the prompt's features attend to the image's too.
    jitter : float, default 20.0
        Strength of the feature jitter; 0 for none.
    refined : float, default 0.5
        Share of the refined map in the fused one, the rest is the reconstruction error; 0 leaves the refiner
        out.
    smoothing : float, default 4.0
        Standard deviation of the map's Gaussian smoothing, in model pixels.
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
    The prompt of a product (the source's ``product``) is its training image with the most typical features
    on average. The product of a test image is not asked for: it takes the prompt whose averaged features are
    nearest.

    Differences from the paper: EfficientNet-Lite2 instead of EfficientNet-B4; defects are planted
    (`synth.planted`) instead of blended from a texture data set; channels are standardised over the training
    images; attention is not masked around a token's own place. How the paper weighs the two maps is not
    known to us: half of the map is the refined one, and the reconstruction error counts as one half where
    it reaches the 99.5 % quantile on normals held out of training.

    Source: Gao, ECCV 2024.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {
            "width": 128,
            "heads": 4,
            "depth": 2,
            "steps": 400,
            "batch": 4,
            "learning_rate": 1e-3,
            "synthetic": 200,
        },
        "paper": {
            "width": 256,
            "heads": 8,
            "depth": 4,
            "steps": 100_000,
            "batch": 32,
            "learning_rate": 4e-4,
            "synthetic": 4_000,
        },
    }

    def __init__(
        self,
        encoder: str = "efficientnet_lite2",
        levels: tuple[int | str, ...] = ("6", "10", "14", "19"),
        image_size: int = 256,
        grid: int = 16,
        budget: Budget = "cpu",
        width: int | None = None,
        heads: int | None = None,
        depth: int | None = None,
        steps: int | None = None,
        batch: int | None = None,
        learning_rate: float | None = None,
        synthetic: int | None = None,
        prompted: bool = True,
        bidirectional: bool = True,
        jitter: float = 20.0,
        refined: float = 0.5,
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
        self.grid = grid
        self.budget = budget
        self.width = width
        self.heads = heads
        self.depth = depth
        self.steps = steps
        self.batch = batch
        self.learning_rate = learning_rate
        self.synthetic = synthetic
        self.prompted = prompted
        self.bidirectional = bidirectional
        self.jitter = jitter
        self.refined = refined
        self.smoothing = smoothing
        self.memory_budget = memory_budget
        self.tile = tile
        self.runtime = runtime
        self.precision = precision
        self.weights = weights
        self.seed = seed

    _products: list[str | None]

    def _head(self) -> PatchHead:
        return PatchHead(neighbourhood=1, grid=(self.grid, self.grid))

    def _fit(self, source: Source, labels: npt.NDArray[np.int8]) -> None:
        self._products = [reference.product for reference in source.references]
        super()._fit(source, labels)
        del self._products

    def _train(self, features: Features) -> torch.nn.Module:
        import torch

        from offnominal.image.networks.onenip import (
            Prompted,
            PromptedReconstruction,
            Refiner,
            jittered,
            mask_loss,
        )
        from offnominal.image.networks.standard import Standard
        from offnominal.nets.batches import minibatches
        from offnominal.nets.schedules import drops
        from offnominal.nets.seeding import seeded

        (shape,) = features.shapes
        width, channels = int(self._setting("width")), shape[-1]
        order = generator(self.seed, "onenip", "validation").permutation(features.count)
        held = order[: round(0.15 * features.count)]
        train = order[len(held) :]
        planted = self._planted(features, train)
        with seeded(self.seed, "onenip"):
            reconstruction = PromptedReconstruction(
                channels,
                (self.grid, self.grid),
                width,
                int(self._setting("heads")),
                int(self._setting("depth")),
                prompted=self.prompted,
                bidirectional=self.bidirectional,
            )
            refiner = Refiner(channels, width) if planted is not None and self.refined else None
        standard = Standard(features.means[0], features.deviations[0])
        prompts = standard(torch.from_numpy(self._prompts(features)))
        model = Prompted(standard, reconstruction, refiner, prompts, 1.0, self.refined)

        def take(at: Array, random: np.random.Generator) -> dict[str, Array]:
            chosen = {"normal": features.take(train[at])[0]}
            if planted is not None:
                drawn = random.integers(len(planted[0]), size=len(at))
                chosen["source"] = features.take(planted[0][drawn])[0]
                chosen["planted"] = planted[1][drawn].astype(np.float32)
                chosen["mask"] = planted[2][drawn].astype(np.float32)
            return chosen

        def step(given: dict[str, torch.Tensor]) -> torch.Tensor:
            normal = standard(given["normal"])
            made = model.restored(jittered(normal, self.jitter), normal)
            loss: torch.Tensor = (made - normal).square().mean()
            if "planted" not in given:
                return loss
            off, source = standard(given["planted"]), standard(given["source"])
            again = model.restored(off, source)
            loss = loss + (again - source).square().mean()
            if refiner is not None:
                changed = torch.cat([(again - off).abs(), (made - normal).abs()]).detach()
                masks = torch.cat([given["mask"], torch.zeros_like(given["mask"])])
                loss = loss + mask_loss(refiner(changed), masks)
            return loss

        self._run(
            model,
            step,
            minibatches(len(train), int(self._setting("batch")), take),
            torch.optim.AdamW(
                model.parameters(), lr=float(self._setting("learning_rate")), weight_decay=1e-4
            ),
            steps=int(self._setting("steps")),
            schedule=drops(0.8),
        )
        with torch.inference_mode():
            errors = [model.error(torch.from_numpy(features.take([int(i)])[0])).numpy() for i in held]
        if errors:
            model.unit = max(float(np.quantile(np.stack(errors), 0.995)), 1e-6)
        return model

    def _planted(self, features: Features, train: Array) -> tuple[Array, Array, Array] | None:
        """Views that a defect was planted into: which, features (n, g, g, c), masks (n, 4 g, 4 g)."""
        count = int(self._setting("synthetic"))
        if not count:
            return None
        random = generator(self.seed, "onenip", "planted")
        chosen = random.choice(train, count)
        encoded, masks = [], []
        for number in track(range(count), label="Planting defects"):
            (view,) = features.pixels(chosen[number : number + 1])
            level = float(random.uniform(0.3, 1.0))
            item, mask = plant_in_view(view, KINDS[number % len(KINDS)], level, random)
            encoded.append(self.features.encode(item[None])[0][0].astype(np.float16))
            shown = resize_map(mask.astype(np.float32), (4 * self.grid, 4 * self.grid))
            masks.append(shown.astype(np.float16))
        return chosen, np.stack(encoded), np.stack(masks)

    def _prompts(self, features: Features) -> Array:
        """Features (p, g, g, c) of each product's most typical view."""
        means = np.concatenate([features.take([view])[0].mean(axis=(1, 2)) for view in range(features.count)])
        means /= np.maximum(features.deviations[0], 1e-3 * features.deviations[0].max() + 1e-9)
        products = np.array([str(self._products[position]) for position, _ in features._views])
        typical = []
        for product in np.unique(products):
            views = np.flatnonzero(products == product)
            apart = np.square(means[views] - means[views].mean(axis=0)).sum(axis=1)
            typical.append(int(views[apart.argmin()]))
        return features.take(typical)[0]
