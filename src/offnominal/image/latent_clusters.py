"""Conditioned latent clusters: labelled normal and anomalous images, each with a cluster of codes (S136)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.core.errors import BadItem
from offnominal.core.progress import track
from offnominal.core.seeds import generator
from offnominal.core.source import Item, Source
from offnominal.data import prefetch, resize
from offnominal.encoders import PatchHead, image_encoder
from offnominal.image.detector import ImageBatch, Views
from offnominal.image.encoded import Precision
from offnominal.image.features import Features
from offnominal.image.trained import Budget, TrainedImageDetector
from offnominal.pipeline import Mapped
from offnominal.synth import KINDS
from offnominal.synth.views import plant_in_view

if TYPE_CHECKING:
    import torch

    from offnominal.image.export.graph import Graph, Value
    from offnominal.image.networks.latent_clusters import ClusterVAE

Array = npt.NDArray[Any]
EPOCH = 25  # steps between looks at the training
HELD = 0.15
"""Share of each class that only the report of the clusters is made from."""


@dataclass(frozen=True, slots=True)
class _MappedViews(Views):
    """Views with the discrepancy map (S, S) of each."""

    maps: list[npt.NDArray[np.float32]]


@dataclass(frozen=True)
class _Examples:
    """What is trained on: the views, then those with a planted defect, of which the features are held.

    Images are at the decoder's size; maps are there where they were asked for.
    """

    views: Features
    planted: list[Array]
    images: list[Array]
    labels: npt.NDArray[np.int8]
    maps: list[Array]


@card(
    "latent_clusters",
    row="S136",
    title="Conditioning Latent-Space Clusters for Real-World Anomaly Classification",
    year=2023,
    url="https://arxiv.org/abs/2309.09676",
    kind="detector",
    modality="image",
    setting=("supervised",),
    supervision="supervised",
    scope="item",
    localises=False,
    trains=True,
    explains=("reconstruction",),
    extra="torch",
)
class LatentClusters(TrainedImageDetector):
    """A variational auto-encoder whose codes form a normal and an anomalous cluster; it needs labels.

    The anomalies it learns are those it is shown. Images without a label count as normal; where no image is
    labelled anomalous, normal ones with planted defects take their place.

    Parameters
    ----------
    encoder : str, default "efficientnet_lite2"
        Frozen image encoder that the auto-encoder sees an image through, and reconstructions are compared by.
    levels : tuple of int or str, optional
        Levels of the encoder whose features are joined; None takes the encoder's default.
    image_size : int, default 256
        Side of the square the images are scaled to, in pixels.
    grid : int, default 16
        Cells along a side that features are brought to; divisible by four.
    discrepancy : bool, default False
        Images have a fourth channel: a map of what looks wrong, made by whatever means, brighter is worse.
        The paper's comes from semantic segmentation and image resynthesis.
    latent : int, default 32
        Width of the code.
    separation : float, default 8.0
        Distance of the clusters' centres, in standard deviations of their targets.
    divergence : float, default 0.1
        Weight of the divergence from the class's Gaussian.
    distance : float, default 1.0
        Weight of the term that keeps the classes' mean codes apart; 0 leaves it out.
    perceptual : float, default 1.0
        Weight of the reconstruction in features of the encoder; 0 leaves the squared error of pixels.
    budget : {"cpu", "paper"}
        Fills the following where they are None.
    side : int, optional
        Side of the reconstruction in pixels, at least 32 and divisible by 16.
    steps, batch : int, optional
        Optimiser steps; images in each, half of them anomalous.
    rate : float, optional
        Adam's learning rate.
    synthetic : int, optional
        Images with planted defects, where none are labelled anomalous.
    memory_budget : int, default 512
        Mebibytes of features held while fitting.
    tile : int, optional
        Cut larger images into overlapping square tiles of this side; each has its image's label.
    runtime, precision : str, default "auto"
        Runtime and precision of the encoder.
    weights : str, optional
        File or folder of the encoder's weights, or "random"; None takes those that are installed.
    seed : int, default 0

    Attributes
    ----------
    clusters_ : dict
        How well the clusters are apart, on images held out of training: "distance" of the classes' mean
        codes, "spread" (mean distance of a code to its class's mean), "ratio" of the two, "accuracy" of the
        nearest cluster (mean of both classes), and "anomalies", where they came from. Numbers are None where
        a class has no image to hold out.

    Notes
    -----
    An image's class is that of the nearer centre; the score d₀/(d₀ + d₁) of the distances to both is above ½
    for anomalous ones, and near ½ for images far from either.

    Differences from the paper: the encoder of the auto-encoder stands on frozen features instead of pixels,
    for hundreds of labelled images instead of thousands; the reconstruction is small.

    Source: Bogdoll, Pavlitska, Klaus & Zöllner, 2023.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {"side": 64, "steps": 400, "batch": 16, "rate": 1e-3, "synthetic": 200},
        "paper": {"side": 256, "steps": 20_000, "batch": 32, "rate": 1e-4, "synthetic": 4_000},
    }
    clusters_: dict[str, Any]

    def __init__(
        self,
        encoder: str = "efficientnet_lite2",
        levels: tuple[int | str, ...] | None = None,
        image_size: int = 256,
        grid: int = 16,
        discrepancy: bool = False,
        latent: int = 32,
        separation: float = 8.0,
        divergence: float = 0.1,
        distance: float = 1.0,
        perceptual: float = 1.0,
        budget: Budget = "cpu",
        side: int | None = None,
        steps: int | None = None,
        batch: int | None = None,
        rate: float | None = None,
        synthetic: int | None = None,
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
        self.grid = grid
        self.discrepancy = discrepancy
        self.latent = latent
        self.separation = separation
        self.divergence = divergence
        self.distance = distance
        self.perceptual = perceptual
        self.budget = budget
        self.side = side
        self.steps = steps
        self.batch = batch
        self.rate = rate
        self.synthetic = synthetic
        self.memory_budget = memory_budget
        self.tile = tile
        self.runtime = runtime
        self.precision = precision
        self.weights = weights
        self.seed = seed

    _source: Source
    _known: npt.NDArray[np.int8]

    # ---------------------------------------------------------------- images with a fourth channel

    def _head(self) -> PatchHead:
        return PatchHead(neighbourhood=1, grid=(self.grid, self.grid))

    def _prepare(self, item: Item) -> Views:
        if self.discrepancy and item.value.shape[2] != 4:
            raise BadItem(
                item.reference.item,
                f"has {item.value.shape[2]} channel(s), with a discrepancy map it needs four",
                "add the map as the fourth channel, or make the detector with discrepancy=False",
            )
        views = super()._prepare(item)
        if not self.discrepancy:
            return views
        maps = [
            super(LatentClusters, self)._view(item.value[y0:y1, x0:x1, 3:])[..., 0]
            for y0, x0, y1, x1 in views.boxes
        ]
        return _MappedViews(views.pixels, views.boxes, views.shape, maps)

    def _view(self, image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return super()._view(image[..., :3] if self.discrepancy else image)

    def _inputs(self, batch: ImageBatch) -> list[Array]:
        (features,) = self.features.encode(batch.pixels)
        return [features, _maps(batch)] if self.discrepancy else [features]

    def _graph(self, graph: Graph) -> tuple[Value, Value | None]:
        if self.discrepancy:
            from offnominal.image.export import NotExportable

            raise NotExportable(
                "latent_clusters with a discrepancy map cannot be exported: exports take three channels; "
                "score with the saved model"
            )
        return super()._graph(graph)

    # ---------------------------------------------------------------- fit

    def _fit(self, source: Source, labels: npt.NDArray[np.int8]) -> None:
        self._source, self._known = source, (labels == 1).astype(np.int8)
        try:
            super()._fit(source, labels)
        finally:
            del self._source, self._known

    def _train(self, features: Features) -> torch.nn.Module:
        import torch

        from offnominal.image.networks.latent_clusters import ClusterScore, ClusterVAE, apart
        from offnominal.image.networks.standard import Standard
        from offnominal.nets.batches import Batches
        from offnominal.nets.perceptual import ContentLoss
        from offnominal.nets.schedules import cosine
        from offnominal.nets.seeding import seeded
        from offnominal.nets.vae import kl, sample

        (shape,), side = features.shapes, int(self._setting("side"))
        if self.grid % 4 or side % 16 or side < 32:
            raise ValueError(
                f"grid must be divisible by 4, and side by 16 and at least 32, got {self.grid} and {side}"
            )
        examples = self._examples(features, side)
        train, held = self._parts(examples.labels)
        with seeded(self.seed, "latent_clusters"):
            model = ClusterVAE(
                Standard(features.means[0], features.deviations[0]),
                shape[-1],
                self.grid,
                self.latent,
                side,
                self.separation,
                discrepancy=self.discrepancy,
            )
        content = None
        if self.perceptual:
            content = ContentLoss(
                image_encoder(
                    self.encoder, levels=self._fine_levels(), size=side, weights=self.weights
                ).module()
            )
        half = max(1, min(int(self._setting("batch")), 2 * len(train[0])) // 2)

        def draw(epoch: int, random: np.random.Generator) -> Iterator[list[Array]]:
            for _ in range(EPOCH):
                chosen = np.concatenate([random.choice(part, half) for part in train if len(part)])
                yield _taken(examples, chosen)

        def step(given: list[torch.Tensor]) -> torch.Tensor:
            rows, images, labels, *maps = given
            mean, log_variance = model.encode(rows, maps[0] if maps else None)
            made = model.decode(sample(mean, log_variance))
            loss = ((made - images) / 255).square().mean()
            if content is not None:
                loss = loss + self.perceptual * content(made, images)
            loss = loss + self.divergence * kl(mean, log_variance, model.centres(labels)).mean()
            return loss + self.distance * apart(mean, labels, self.separation)

        self._run(
            model.train(),
            step,
            Batches(EPOCH, draw),
            torch.optim.Adam(model.parameters(), float(self._setting("rate"))),
            steps=int(self._setting("steps")),
            schedule=cosine(0.01, warmup=0.05),
            clip=1.0,
            frozen=[] if content is None else [content],
        )
        self.clusters_ = self._report(model, examples, held)
        return ClusterScore(model)

    def _fine_levels(self) -> tuple[str, ...]:
        """Two fine levels of the encoder, by which reconstructions are compared."""
        from offnominal.encoders.image import network

        table = network(self.encoder)
        taps = list(table.taps)
        first = taps.index(table.levels[0])
        return taps[first // 2], taps[first]

    def _examples(self, features: Features, side: int) -> _Examples:
        """All views, and where none is anomalous those with planted defects."""
        known = np.array([self._known[position] for position, _ in features._views], dtype=np.int8)
        found = _Examples(features, [], [], known, [])
        for first in range(0, features.count, 16):
            views = features.pixels(range(first, min(first + 16, features.count)))
            found.images.extend(_small(view, side) for view in views)
        if self.discrepancy:
            everything = prefetch(Mapped(self._source, self._prepare), range(len(self._source)))
            for _, item in everything:
                if isinstance(item, BadItem):  # it was good a moment ago
                    raise RuntimeError(f"{item.item}: {item.reason}")
                found.maps.extend(item.value.maps)
        planted = 0 if known.any() else int(self._setting("synthetic"))
        random = generator(self.seed, "latent_clusters", "planted")
        for number in track(range(planted), label="Planting defects"):
            index = int(random.integers(features.count))
            (view,) = features.pixels([index])
            view, mask = plant_in_view(
                view, KINDS[number % len(KINDS)], float(random.uniform(0.3, 1.0)), random
            )
            found.planted.append(self.features.encode(view[None])[0][0].astype(np.float16))
            found.images.append(_small(view, side))
            if self.discrepancy:
                shown = resize(255 * mask.astype(np.float32)[..., None], view.shape[:2])[..., 0]
                found.maps.append(np.maximum(found.maps[index], shown))
        labels = np.concatenate([known, np.ones(planted, np.int8)])
        return replace(found, labels=labels)

    def _parts(self, labels: npt.NDArray[np.int8]) -> tuple[list[Array], list[Array]]:
        """Positions of each class to train on, and to report on."""
        random = generator(self.seed, "latent_clusters", "held")
        train, held = [], []
        for label in (0, 1):
            order = random.permutation(np.flatnonzero(labels == label))
            count = round(HELD * len(order))
            held.append(order[:count])
            train.append(order[count:])
        return train, held

    def _report(self, model: ClusterVAE, examples: _Examples, held: list[Array]) -> dict[str, Any]:
        """How well the clusters are apart, see ``clusters_``."""
        import torch

        report: dict[str, Any] = {"anomalies": "planted" if examples.planted else "labelled"}
        if not all(len(part) for part in held):
            return report | dict.fromkeys(("distance", "spread", "ratio", "accuracy"))
        codes = []
        with torch.inference_mode():
            for part in held:
                blocks = []
                for first in range(0, len(part), 16):
                    rows, _, _, *maps = (
                        torch.from_numpy(array) for array in _taken(examples, part[first : first + 16])
                    )
                    blocks.append(model.encode(rows, maps[0] if maps else None)[0])
                codes.append(torch.cat(blocks))
            right = [(torch.stack(model.distances(part)).argmin(0) == k) for k, part in enumerate(codes)]
        centres = [part.mean(0) for part in codes]
        distance = float((centres[0] - centres[1]).norm())
        spread = float(
            torch.cat(
                [(part - centre).norm(dim=1) for part, centre in zip(codes, centres, strict=True)]
            ).mean()
        )
        accuracy = float(np.mean([float(each.float().mean()) for each in right]))
        return report | {
            "distance": distance,
            "spread": spread,
            "ratio": distance / max(spread, 1e-9),
            "accuracy": accuracy,
        }


def _maps(batch: ImageBatch) -> npt.NDArray[np.float32]:
    """Discrepancy maps (n, S, S) of a batch's views."""
    return np.stack(
        [found for views in batch.views if isinstance(views, _MappedViews) for found in views.maps]
    )


def _small(view: Array, side: int) -> npt.NDArray[np.uint8]:
    """A view at the decoder's size."""
    return np.rint(np.clip(resize(view, (side, side)), 0, 255)).astype(np.uint8)


def _taken(examples: _Examples, chosen: Array) -> list[Array]:
    """Features, images, labels and, where there are any, maps of examples, as float32."""
    count = examples.views.count
    rows = np.empty((len(chosen), *examples.views.shapes[0]), np.float32)
    real = chosen < count
    if real.any():
        rows[real] = examples.views.take(chosen[real])[0]
    for place in np.flatnonzero(~real):
        rows[place] = examples.planted[chosen[place] - count]
    images = np.stack([examples.images[index] for index in chosen]).astype(np.float32)
    taken = [rows, images, examples.labels[chosen].astype(np.float32)]
    if examples.maps:
        taken.append(np.stack([examples.maps[index] for index in chosen]))
    return taken
