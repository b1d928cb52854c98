"""Board auto-encoder: registered photographs, a denoiser, and a comparison of deep features (S057)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.core.errors import BadItem
from offnominal.core.source import Item, Source
from offnominal.data import PixelRange, resize, to_rgb
from offnominal.image.detector import Views
from offnominal.image.features import Features
from offnominal.image.pixels import PixelImageDetector
from offnominal.image.registration import Registration, warp
from offnominal.image.trained import Budget
from offnominal.pipeline import Map

if TYPE_CHECKING:
    import torch

    from offnominal.image.export.graph import Graph, Value


SEEN = 0.999
"""Share of a pixel that has to lie within the photograph."""


@dataclass(frozen=True, slots=True)
class RegisteredViews(Views):
    """Views of an image that was registered.

    Attributes
    ----------
    matrix : ndarray (3, 3)
        Where each place of the registered image lies in the image itself, see `Registration.find`.
    """

    matrix: npt.NDArray[np.float64]


@card(
    "board_ae",
    row="S057",
    title="Image-Based Detection of Modifications in Assembled PCBs with Deep Convolutional Autoencoders",
    year=2023,
    url="https://doi.org/10.3390/s23031353",
    kind="detector",
    modality="image",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    localises=True,
    trains=True,
    explains=("reconstruction",),
    extra="torch",
)
class BoardAutoencoder(PixelImageDetector):
    """Parts missing, added or exchanged on boards photographed without tight control of view or light.

    A photograph is registered to a reference board. A denoising auto-encoder learns what normal boards look
    like, by what a frozen encoder sees in them; what it makes of an image is compared with the image by the
    same eyes, so that components count and specks of light do not.

    Parameters
    ----------
    register : bool, default True
        Whether images are registered to the first normal one (a homography). What a photograph does not show
        of the board is taken from that one; maps are laid back onto the image as it came.
    content : float, default 1.0
        Weight of the content loss, the squared difference of deep features; 0 leaves it out (ablation).
    pixels : float, default 1.0
        Weight of the mean squared error of pixels in [−1, 1].
    compare : {"features", "pixels"}, default "features"
        What the map compares; "pixels" is the ablation.
    noise : float, default 0.1
        Deviation of the noise that training images get, in [−1, 1]; 0 for none.
    encoder : str, default "efficientnet_lite2"
        Frozen encoder of the content loss and of the comparison.
    levels : tuple of int or str, default ("3", "6", "10")
        Its levels.
    image_size : int, default 256
        Side of the square the images, or their parts, are scaled to, in pixels; a multiple of 32.
    budget : {"cpu", "paper"}
        Fills the parameters that are None.
    width : int, optional
        Channels of the first of five levels; the next have 2, 4, and 4 times as many.
    code : int, optional
        Channels of the last level, the code, a 32nd of the image's side: few, or it passes on everything.
    steps : int, optional
        Optimiser steps.
    batch : int, optional
        Images a step.
    rate : float, optional
        Adam's learning rate.
    smoothing : float, default 4.0
        Standard deviation of the map's Gaussian smoothing, in model pixels. The image score is the
        map's peak.
    memory_budget : int, default 512
        Mebibytes of images held while fitting.
    tile : int, optional
        Cut images, after registration, into overlapping square parts of this side, as the paper does.
    weights : str, optional
        File or folder of the encoder's weights, or "random"; None takes those that are installed.
    seed : int, default 0

    Notes
    -----
    An export starts after the registration, which is no graph of layers: it is refused unless
    ``register=False``, where photographs are registered by whoever takes them.

    Differences from the paper: registration works on grey values, not on key points, and finds turns up to
    about 10°, sizes within about 15 % and shifts up to a quarter of the side; features are
    EfficientNet-Lite2's, scaled by the normals' deviations, instead of VGG-19's; parts are cut only where
    ``tile`` says so. "cpu" trains narrow networks briefly.

    Source: Candido de Oliveira, Nassu & Wehrmeister, Sensors 2023.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {"width": 8, "code": 16, "steps": 800, "batch": 4, "rate": 2e-3},
        "paper": {"width": 32, "code": 64, "steps": 40_000, "batch": 16, "rate": 3e-4},
    }

    def __init__(
        self,
        register: bool = True,
        content: float = 1.0,
        pixels: float = 1.0,
        compare: Literal["features", "pixels"] = "features",
        noise: float = 0.1,
        encoder: str = "efficientnet_lite2",
        levels: tuple[int | str, ...] = ("3", "6", "10"),
        image_size: int = 256,
        budget: Budget = "cpu",
        width: int | None = None,
        code: int | None = None,
        steps: int | None = None,
        batch: int | None = None,
        rate: float | None = None,
        smoothing: float = 4.0,
        memory_budget: int = 512,
        tile: int | None = None,
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        self.register = register
        self.content = content
        self.pixels = pixels
        self.compare = compare
        self.noise = noise
        self.encoder = encoder
        self.levels = levels
        self.image_size = image_size
        self.budget = budget
        self.width = width
        self.code = code
        self.steps = steps
        self.batch = batch
        self.rate = rate
        self.smoothing = smoothing
        self.memory_budget = memory_budget
        self.tile = tile
        self.weights = weights
        self.seed = seed

    reference_: npt.NDArray[np.uint8] | None
    _registration: Registration | None

    # ---------------------------------------------------------------- registration

    def _survey(
        self, source: Source, positions: Sequence[int]
    ) -> tuple[npt.NDArray[np.intp] | None, list[BadItem]]:
        self.reference_, self._registration = None, None
        groups, bad = super()._survey(source, positions)
        refused = {entry.item for entry in bad}
        good = (p for p in positions if source.references[p].item not in refused)
        if self.register and (first := next(good, None)) is not None:
            self.reference_ = np.rint(self._coloured(source.read(first).value)).astype(np.uint8)
            self._registration = Registration(self.reference_.mean(axis=2))
        return groups, bad

    def _restored(self) -> None:
        super()._restored()
        self._registration = None if self.reference_ is None else Registration(self.reference_.mean(axis=2))

    def _prepare(self, item: Item) -> Views:
        views = super()._prepare(item)
        if self._registration is None:
            return views
        image = item.value
        matrix = self._registration.find(self._view(image).mean(axis=2, dtype=np.float32))
        if np.array_equal(matrix, np.eye(3)):
            return views
        moved = warp(image.astype(np.float32), matrix, image.shape[:2])
        if np.issubdtype(image.dtype, np.integer):
            moved = np.rint(moved)
        views = super()._prepare(replace(item, value=moved.astype(image.dtype)))
        seen = warp(np.ones(image.shape[:2], np.float32), matrix, image.shape[:2], 0.0)
        return RegisteredViews(self._filled(views, seen), views.boxes, views.shape, matrix)

    def _coloured(self, image: Any) -> npt.NDArray[np.float32]:
        """An image at its own size as views are: three channels in 0…255."""
        if self.deep_:
            image = PixelRange(self.pixel_low_, self.pixel_high_).apply(image)
        return to_rgb(image).astype(np.float32)

    def _filled(self, views: Views, seen: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """Views; what the photograph does not show in them is the reference's, in the photograph's light."""
        assert self.reference_ is not None
        reference = resize(self.reference_.astype(np.float32), views.shape)
        size, found = (self.image_size, self.image_size), []
        for view, (y0, x0, y1, x1) in zip(views.pixels, views.boxes, strict=True):
            shown = resize(seen[y0:y1, x0:x1, None], size)
            normal = resize(reference[y0:y1, x0:x1], size)
            inside = shown[..., 0] > SEEN
            if inside.any():
                normal = normal * (view[inside].mean(axis=0) / np.maximum(normal[inside].mean(axis=0), 1.0))
            found.append(np.where(shown > SEEN, view, np.clip(normal, 0, 255)).astype(np.float32))
        return found

    def _map(self, grids: npt.NDArray[np.float32], views: Views, own_size: bool) -> Map:
        found = super()._map(grids, views, own_size)
        if not own_size or not isinstance(views, RegisteredViews) or np.array_equal(views.matrix, np.eye(3)):
            return found
        return warp(found, np.linalg.inv(views.matrix), views.shape, float(found.min()))

    # ---------------------------------------------------------------- the auto-encoder

    def _train(self, features: Features) -> torch.nn.Module:
        import torch

        from offnominal.image.networks.board_ae import Denoiser, Scored
        from offnominal.image.networks.errors import Perceptual, Squared
        from offnominal.nets.schedules import cosine
        from offnominal.nets.seeding import seeded

        if self.compare not in ("features", "pixels"):
            raise ValueError(f"compare must be features or pixels, got {self.compare!r}")
        if not (self.content or self.pixels):
            raise ValueError("content and pixels are both 0: there is no loss to train by")
        perceptual = Perceptual(self._described(features, self.levels))
        width = int(self._setting("width"))
        with seeded(self.seed, "network"):
            denoiser = Denoiser(
                (width, 2 * width, 4 * width, 4 * width, int(self._setting("code"))),
                self.image_size,
                perceptual,
                content=self.content,
                pixels=self.pixels,
                noise=self.noise,
            )
        learned = [*denoiser.encoder.parameters(), *denoiser.decoder.parameters()]
        self._run(
            {"encoder": denoiser.encoder.train(), "decoder": denoiser.decoder.train()},
            denoiser.loss,
            self._draws(features, int(self._setting("batch"))),
            torch.optim.Adam(learned, float(self._setting("rate"))),
            steps=int(self._setting("steps")),
            schedule=cosine(0.02),
            frozen=[perceptual],
        )
        error = perceptual if self.compare == "features" else Squared()
        with torch.inference_mode():
            blank = torch.zeros(1, 3, self.image_size, self.image_size)
            grid = error(blank, blank).shape[1]
        return Scored(denoiser, error, grid, self.image_size, self.smoothing)

    def _graph(self, graph: Graph) -> tuple[Value, Value | None]:
        from offnominal.image.export.writing import NotExportable

        if self.register:
            raise NotExportable(
                "board_ae registers photographs, which no graph does; fit it with register=False on "
                "registered ones to export it"
            )
        return super()._graph(graph)
