"""PNI: how likely a patch is where it lies and beside its neighbours (S086)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.core.progress import track
from offnominal.core.seeds import generator
from offnominal.data import resize_map
from offnominal.encoders import PatchHead
from offnominal.image.detector import ImageBatch
from offnominal.image.encoded import Precision
from offnominal.image.features import Features
from offnominal.image.maps import operator
from offnominal.image.trained import Budget, TrainedImageDetector
from offnominal.normality import CoresetBuffer, NearestRows
from offnominal.synth import KINDS
from offnominal.synth.views import plant_in_view

if TYPE_CHECKING:
    import torch

    from offnominal.image.export.graph import Graph, Value
    from offnominal.image.networks.pni import Estimator, Neighbourhood

Array = npt.NDArray[Any]
HELD = 0.1
"""Share of the views that only tell the refiner the scale of the map."""


@card(
    "pni",
    row="S086",
    title="PNI: Industrial Anomaly Detection using Position and Neighborhood Information",
    year=2023,
    url="https://arxiv.org/abs/2211.12634",
    kind="detector",
    modality="image",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    localises=True,
    trains=True,
    explains=("distance",),
    extra="torch",
)
class PNI(TrainedImageDetector):
    """Distance to those normal patches only that are likely at this place and beside these neighbours.

    A memory bank of normal patches as in PatchCore gives the likelihood of a patch's appearance. Two priors
    say which members of the bank may be compared with: those seen about this position, counted in a
    histogram, and those that a network expects from the patch's neighbours. A patch that is normal
    elsewhere stands out where it is not.

    Parameters
    ----------
    encoder : str, default "efficientnet_lite2"
        Frozen image encoder.
    levels : tuple of int or str, optional
        Levels of the encoder whose features are joined; None takes the encoder's default.
    image_size : int, default 256
        Side of the square the images are scaled to, in pixels.
    priors : {"both", "position", "neighbourhood", "none"}, default "both"
        Which priors gate the bank; the scores of two are averaged, "none" is the distance to the whole bank.
    window : int, default 5
        Side of the window of neighbours, and of the one over which positions are counted, odd, in cells.
    refine : bool, default False
        Train the refinement network on planted defects, and mix its map into the result.
    mixed : float, default 0.1
        Share of the refined map.
    neighbourhood : int, default 3
        Side of the window over which features are averaged, in grid cells; the paper's patch size is 5.
    budget : {"cpu", "paper"}
        Fills the following where they are None.
    bank_size : int, optional
        Members of the embedding coreset; the published one is 1 % of the patches.
    distribution : int, optional
        Members of the distribution coreset, over which the priors are.
    reduced, hidden, depth : int, optional
        Network of the neighbourhood prior: channels it sees of each neighbour, width and layers.
    steps, batch : int, optional
        Optimiser steps of that network, and images in each.
    rate : float, optional
        Adam's learning rate.
    synthetic : int, optional
        Images with planted defects to train the refiner on.
    refine_steps : int, optional
        Optimiser steps of the refiner, eight images each.
    smoothing : float, default 4.0
        Standard deviation of the map's Gaussian smoothing, in model pixels; published: 8 at 480 pixels.
    memory_budget : int, default 512
        Mebibytes of features held while fitting.
    tile : int, optional
        Cut larger images into overlapping square tiles of this side; a position is then one in the tile.
    runtime, precision : str, default "auto"
        Runtime and precision of the encoder.
    weights : str, optional
        File or folder of the encoder's weights, or "random"; None takes those that are installed.
    seed : int, default 0

    Notes
    -----
    Per prior the score of a patch φ is −log max p(φ|c) over the members c that the prior admits, with
    p(φ|c) ∝ exp(−0.99 ‖φ − c‖); a prior admits those with p(c) > 1/(2|C|). The map is the mean of the scores
    of both priors, the image score its largest value when smoothed.

    Differences from the paper: EfficientNet-Lite2 at 256 pixels instead of WideResNet-101 at 480, hence a
    smaller window; the distribution coreset is the first part of the greedy embedding coreset instead of a
    selection of its own; with "cpu" the network sees each neighbour through a learned linear map to few
    channels. The refiner's two encoders are small and untrained instead of DenseNet-161, and its defects are
    those of `synth.planted`.

    Published on MVTec AD: 99.56 image AUROC, 98.98 pixel AUROC.

    Source: Bae, Lee & Kim, ICCV 2023.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {
            "bank_size": 2_000,
            "distribution": 512,
            "reduced": 32,
            "hidden": 256,
            "depth": 4,
            "steps": 600,
            "batch": 8,
            "rate": 1e-3,
            "synthetic": 200,
            "refine_steps": 300,
        },
        "paper": {
            "bank_size": 8_000,
            "distribution": 2_048,
            "reduced": 4_096,
            "hidden": 2_048,
            "depth": 10,
            "steps": 20_000,
            "batch": 8,
            "rate": 1e-3,
            "synthetic": 4_000,
            "refine_steps": 20_000,
        },
    }

    def __init__(
        self,
        encoder: str = "efficientnet_lite2",
        levels: tuple[int | str, ...] | None = None,
        image_size: int = 256,
        priors: Literal["both", "position", "neighbourhood", "none"] = "both",
        window: int = 5,
        refine: bool = False,
        mixed: float = 0.1,
        neighbourhood: int = 3,
        budget: Budget = "cpu",
        bank_size: int | None = None,
        distribution: int | None = None,
        reduced: int | None = None,
        hidden: int | None = None,
        depth: int | None = None,
        steps: int | None = None,
        batch: int | None = None,
        rate: float | None = None,
        synthetic: int | None = None,
        refine_steps: int | None = None,
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
        self.priors = priors
        self.window = window
        self.refine = refine
        self.mixed = mixed
        self.neighbourhood = neighbourhood
        self.budget = budget
        self.bank_size = bank_size
        self.distribution = distribution
        self.reduced = reduced
        self.hidden = hidden
        self.depth = depth
        self.steps = steps
        self.batch = batch
        self.rate = rate
        self.synthetic = synthetic
        self.refine_steps = refine_steps
        self.smoothing = smoothing
        self.memory_budget = memory_budget
        self.tile = tile
        self.runtime = runtime
        self.precision = precision
        self.weights = weights
        self.seed = seed

    def _head(self) -> PatchHead:
        return PatchHead(neighbourhood=self.neighbourhood)

    def _inputs(self, batch: ImageBatch) -> list[Array]:
        (features,) = self.features.encode(batch.pixels)
        return [features, batch.pixels] if self.refine else [features]

    def _graph_inputs(self, graph: Graph) -> list[Value]:
        (features,) = graph.encode(self.features)
        return [features, graph.pixels] if self.refine else [features]

    def _train(self, features: Features) -> torch.nn.Module:
        import torch

        from offnominal.image.networks.pni import Estimator, Scorer

        if self.window < 3 or self.window % 2 == 0:
            raise ValueError(f"window must be odd and at least 3, got {self.window}")
        order = generator(self.seed, "pni", "held").permutation(features.count)
        held = order[: round(HELD * features.count)] if self.refine else order[:0]
        train = order[len(held) :]
        bank = self._coreset(features, train)
        count = min(int(self._setting("distribution")), len(bank))
        distribution = NearestRows(bank[:count], precision=self.precision)
        owners = distribution.search(bank)[1][:, 0]
        nearest = self._nearest(features, train, distribution)
        position = neighbourhood = None
        if self.priors in ("both", "position"):
            position = torch.from_numpy(position_prior(nearest, count, self.window).astype(np.float32))
        if self.priors in ("both", "neighbourhood") and count > 1:
            neighbourhood = self._classifier(features, train, nearest, count)
        estimator = Estimator(torch.from_numpy(bank), torch.from_numpy(owners), position, neighbourhood)
        estimator.eval()
        height, width = features.shapes[0][:2]
        if not self.refine:
            return Scorer(estimator, self._operators(height, width, self.image_size, self.smoothing))
        return self._refined(features, train, held if len(held) else train, estimator)

    def _coreset(self, features: Features, train: Array) -> npt.NDArray[np.float32]:
        """Members of the embedding coreset (m, c), in the order of greedy choice."""
        room = int(self.share * self.memory_budget * 2**20) // 2
        buffer = CoresetBuffer(room, int(self._setting("bank_size")), seed=self.seed)
        for first in range(0, len(train), 16):
            (block,) = features.take(train[first : first + 16])
            buffer.absorb(block.reshape(-1, block.shape[-1]))
        return buffer.finish()

    def _nearest(self, features: Features, train: Array, distribution: NearestRows) -> npt.NDArray[np.int64]:
        """Nearest member of the distribution coreset at each place of each training view (n, h, w)."""
        found = []
        for first in range(0, len(train), 16):
            (block,) = features.take(train[first : first + 16])
            places = distribution.search(block.reshape(-1, block.shape[-1]))[1]
            found.append(places.reshape(block.shape[:-1]))
        return np.concatenate(found)

    def _classifier(
        self, features: Features, train: Array, nearest: npt.NDArray[np.int64], count: int
    ) -> Neighbourhood:
        """Train the network of the neighbourhood prior."""
        import torch

        from offnominal.image.networks.pni import Neighbourhood
        from offnominal.image.networks.standard import Standard
        from offnominal.nets.batches import minibatches
        from offnominal.nets.schedules import cosine
        from offnominal.nets.seeding import seeded
        from offnominal.nets.training import train as run

        with seeded(self.seed, "neighbourhood"):
            network = Neighbourhood(
                Standard(features.means[0], features.deviations[0]),
                features.shapes[0][-1],
                self.window,
                count,
                reduced=int(self._setting("reduced")),
                hidden=int(self._setting("hidden")),
                depth=int(self._setting("depth")),
                dropout=0.1,
            )

        def take(indices: Array, random: np.random.Generator) -> tuple[Array, Array]:
            return features.take(train[indices])[0], nearest[indices]

        def step(given: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(network(given[0]), given[1].long())

        run(
            network.train(),
            step,
            minibatches(len(train), min(len(train), int(self._setting("batch"))), take),
            torch.optim.Adam(network.parameters(), float(self._setting("rate"))),
            steps=int(self._setting("steps")),
            schedule=cosine(0.01, warmup=0.05),
            seed=self.seed,
            checkpoint=self._folder and self._folder / "neighbourhood",
            label="Training the neighbourhood prior",
        )
        return network

    def _refined(
        self, features: Features, train: Array, held: Array, estimator: Estimator
    ) -> torch.nn.Module:
        """Train the refiner on planted defects."""
        import torch

        from offnominal.image.networks.pni import Refiner, Scorer, refinement_loss
        from offnominal.nets.batches import minibatches
        from offnominal.nets.schedules import cosine
        from offnominal.nets.seeding import seeded
        from offnominal.nets.training import train as run

        height, width = features.shapes[0][:2]
        side = max(16, 8 * round(self.image_size / 16))
        with torch.inference_mode():
            maps = [estimator(torch.from_numpy(features.take([int(view)])[0])).numpy() for view in held]
        with seeded(self.seed, "refiner"):
            refiner = Refiner(side, (16, 32, 64))
        network = Scorer(
            estimator,
            self._operators(side, side, self.image_size, self.smoothing),
            refiner,
            self._operators(height, width, side, 0.0),
            max(float(np.quantile(np.stack(maps), 0.995)), 1e-6),
            self.mixed,
        )
        pixels, coarse, masks = self._planted(features, train, network, side)

        def take(indices: Array, random: np.random.Generator) -> list[Array]:
            return [pixels[indices].astype(np.float32), coarse[indices], masks[indices].astype(np.float32)]

        def step(given: list[torch.Tensor]) -> torch.Tensor:
            return refinement_loss(refiner(given[0], given[1]), given[2])

        run(
            refiner.train(),
            step,
            minibatches(len(pixels), min(8, len(pixels)), take),
            torch.optim.Adam(refiner.parameters(), 1e-3),
            steps=int(self._setting("refine_steps")),
            schedule=cosine(0.01, warmup=0.05),
            seed=self.seed,
            checkpoint=self._folder and self._folder / "refiner",
            label="Training the refiner",
        )
        return network.eval()

    def _planted(
        self, features: Features, train: Array, network: Any, side: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.float16]]:
        """Views with a planted defect, each fifth without, at the refiner's size, their maps and masks."""
        import torch

        random = generator(self.seed, "pni", "planted")
        pixels, maps, masks = [], [], []
        for number in track(range(int(self._setting("synthetic"))), label="Planting defects"):
            (view,) = features.pixels([int(random.choice(train))])
            mask = np.zeros((2, 2), np.float32)
            if number % 5:
                kind, level = KINDS[number % len(KINDS)], float(random.uniform(0.3, 1.0))
                view, touched = plant_in_view(view, kind, level, random)
                mask = touched.astype(np.float32)
            with torch.inference_mode():
                encoded = torch.from_numpy(self.features.encode(view[None])[0])
                maps.append(network.coarse(encoded).numpy()[0])
                small = network.small(torch.from_numpy(view[None])).numpy()[0]
            pixels.append(np.rint(small).astype(np.uint8))
            masks.append(resize_map(mask, (side, side)).astype(np.float16))
        return np.stack(pixels), np.stack(maps), np.stack(masks)

    def _operators(
        self, height: int, width: int, side: int, sigma: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Matrices that bring a map (height, width) to a square side, and smooth it there."""
        import torch

        rows, columns = (torch.tensor(operator(grid, side, side, sigma)) for grid in (height, width))
        return rows, columns


def position_prior(nearest: npt.NDArray[np.int64], members: int, window: int) -> npt.NDArray[np.float64]:
    """Share (h · w, members) of each coreset member among those nearest about each position.

    Parameters
    ----------
    nearest : ndarray (n, h, w)
        Nearest member at each place of each normal view.
    members : int
    window : int
        Side of the window over which a position's counts are gathered, odd; it is cut at the border.
    """
    _, height, width = nearest.shape
    places = np.arange(height * width).reshape(height, width)
    flat = (places[None] * members + nearest).ravel()
    counts = np.bincount(flat, minlength=height * width * members).reshape(height, width, members)
    reach = window // 2
    for axis in (0, 1):
        total = np.cumsum(np.insert(counts, 0, 0, axis=axis), axis=axis)
        side = counts.shape[axis]
        ends = np.minimum(np.arange(side) + reach + 1, side)
        starts = np.maximum(np.arange(side) - reach, 0)
        counts = np.take(total, ends, axis=axis) - np.take(total, starts, axis=axis)
    gathered = counts.reshape(-1, members)
    shares: npt.NDArray[np.float64] = gathered / gathered.sum(axis=1, keepdims=True)
    return shares
