"""EfficientAD: a student that cannot follow its teacher where it has not seen normals (S027)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.core.seeds import generator
from offnominal.encoders import PatchHead
from offnominal.encoders.image import image_encoder
from offnominal.encoders.runtime import choose
from offnominal.image.detector import ImageBatch
from offnominal.image.encoded import Precision
from offnominal.image.features import Features
from offnominal.image.natural import INSTALLED, NaturalImages
from offnominal.image.trained import Budget, TrainedImageDetector

if TYPE_CHECKING:
    import torch

    from offnominal.image.export.graph import Graph, Value

Array = npt.NDArray[Any]

VALIDATION = 0.15
"""Share of the normals that only the scales of the maps are taken from."""

LEAST = 1e-4
"""Distance of the quantiles that counts as the least; outputs have a variance of about 1."""

EPOCH = 100
"""Steps from one place where a training can be resumed to the next."""


@card(
    "efficientad",
    row="S027",
    title="EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies",
    year=2024,
    url="https://arxiv.org/abs/2303.14535",
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
class EfficientAD(TrainedImageDetector):
    """A small student imitates a teacher on normal patches, and an auto-encoder on whole normal images.

    Where the student's description of a patch differs from the teacher's, the patch is unlike the normal
    ones; where it differs from what the auto-encoder predicts from the whole image, parts that look normal
    one by one do not go together. All networks run in one graph, from pixels.

    Parameters
    ----------
    size : {"S", "M"}, default "S"
        Of the patch description networks.
    budget : {"cpu", "paper"}, default "cpu"
        What stands for the parameters that are None: "cpu" is narrow and short, minutes on two cores;
        "paper" the published widths and steps, for a GPU.
    encoder : str, default "efficientnet_lite2"
        Frozen encoder that the teacher is distilled from; detection does without it.
    levels : tuple of int or str, default ("6", "14")
        Its levels.
    image_size : int, default 256
        Side of the square the images are scaled to, in pixels; a multiple of 4.
    outputs : int, optional
        Channels of a description; never more than the encoder's levels have together.
    scale : float, optional
        Factor on the networks' published widths.
    distillation_steps, distillation_batch : int, optional
        Batches the teacher is trained on, and images in each.
    steps : int, optional
        Images student and auto-encoder are trained on, one at a time.
    learning_rate : float, optional
        Of Adam; a tenth of it for the last twentieth of a training.
    hard : float, default 0.999
        Quantile of the student's squared errors from which on they count (the hard-feature loss); 0 takes
        the mean of all.
    autoencoder : bool, default True
        The branch for logical anomalies.
    penalty_images : str or None, default "photographs"
        Folder of natural images on which the student must not imitate the teacher, and from which the
        teacher learns too; "photographs" are eleven that come with scikit-image. Without any (None) the
        penalty is dropped, and the student follows the teacher further beyond the normals: less accurate.
    smoothing : float, default 0.0
        Standard deviation of the map's Gaussian smoothing, in model pixels; the paper has none.
    memory_budget : int, default 512
        Mebibytes of features held while fitting.
    tile : int, optional
        Cut larger images into overlapping square tiles of this side.
    runtime : str, default "auto"
        Runtime of the encoder, while fitting.
    precision : {"auto", "fp32", "bf16"}, default "auto"
        Of detection; "auto" is bf16 on processors made for it.
    weights : str, optional
        File or folder of the encoder's weights, or "random"; None takes those that are installed.
    seed : int, default 0

    Notes
    -----
    Each branch's map is multiplied so that the 0.9 and 0.995 quantiles of held-out normals are 0.1 apart.
    Moving the first to 0, as the paper does, is left out: it adds the same number to all scores, and where
    normals then lie about 0 they have no digits to agree in.

    Other differences from the paper. The teacher is distilled from EfficientNet-Lite2 at the images' own size
    instead of WideResNet-101 at twice that, from the training normals and, for half of each batch, the
    penalty images instead of ImageNet: what is in neither it describes less well. A description has at most
    as many channels as the encoder's levels (168 with the default ones) instead of 384. The border of the
    map, where no cell has its centre, repeats the nearest cell instead of being zero, so that tiles have no
    seams. The auto-encoder's decoder stops at a quarter of the image's side instead of going to half of it
    and back. The image score is the largest cell, before the map is enlarged.

    Source: Batzner, Heckler & König, WACV 2024.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {
            "scale": 0.25,
            "outputs": 128,
            "distillation_steps": 400,
            "distillation_batch": 2,
            "steps": 700,
            "learning_rate": 1e-3,
        },
        "paper": {
            "scale": 1.0,
            "outputs": 384,
            "distillation_steps": 60_000,
            "distillation_batch": 16,
            "steps": 70_000,
            "learning_rate": 1e-4,
        },
    }

    def __init__(
        self,
        size: Literal["S", "M"] = "S",
        budget: Budget = "cpu",
        encoder: str = "efficientnet_lite2",
        levels: tuple[int | str, ...] = ("6", "14"),
        image_size: int = 256,
        outputs: int | None = None,
        scale: float | None = None,
        distillation_steps: int | None = None,
        distillation_batch: int | None = None,
        steps: int | None = None,
        learning_rate: float | None = None,
        hard: float = 0.999,
        autoencoder: bool = True,
        penalty_images: str | None = INSTALLED,
        smoothing: float = 0.0,
        memory_budget: int = 512,
        tile: int | None = None,
        runtime: str = "auto",
        precision: Precision = "auto",
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        self.size = size
        self.budget = budget
        self.encoder = encoder
        self.levels = levels
        self.image_size = image_size
        self.outputs = outputs
        self.scale = scale
        self.distillation_steps = distillation_steps
        self.distillation_batch = distillation_batch
        self.steps = steps
        self.learning_rate = learning_rate
        self.hard = hard
        self.autoencoder = autoencoder
        self.penalty_images = penalty_images
        self.smoothing = smoothing
        self.memory_budget = memory_budget
        self.tile = tile
        self.runtime = runtime
        self.precision = precision
        self.weights = weights
        self.seed = seed

    def _head(self) -> PatchHead:
        """One description for every 4 × 4 pixels."""
        side, outputs = self.image_size // 4, int(self._setting("outputs"))
        plain = image_encoder(self.encoder, levels=self.levels, size=self.image_size, weights=self.weights)
        return PatchHead(
            grid=(side, side), projection=outputs if outputs < sum(plain.channels) else None, seed=self.seed
        )

    def _train(self, features: Features) -> torch.nn.Module:
        from offnominal.image.networks.efficientad import Fused

        natural = None if self.penalty_images is None else NaturalImages(self.penalty_images, self.image_size)
        order = generator(self.seed, "efficientad", "validation").permutation(features.count)
        held = order[: round(VALIDATION * features.count)]
        train = order[len(held) :]
        teacher = self._distil(features, train, natural)
        branches = self._imitate(features, train, natural, teacher)
        return Fused(branches, self._spans(branches, features, held if len(held) else train))

    def _distil(self, features: Features, train: Array, natural: NaturalImages | None) -> torch.nn.Module:
        """Teach the teacher to give the encoder's features from a 33 × 33 patch (section 3.1)."""
        import torch

        from offnominal.image.networks.efficientad import Normalised, Pixels
        from offnominal.nets.patch_description import BORDER, patch_description
        from offnominal.nets.seeding import seeded

        (shape,), (mean,), (deviation,) = features.shapes, features.means, features.deviations
        outputs = shape[-1]
        least = 1e-3 * max(float(deviation.max()), float(np.abs(mean).max())) + 1e-9
        rate = 1 / np.maximum(deviation, least)
        size = int(self._setting("distillation_batch"))
        other = 0 if natural is None else size // 2
        pixels, inner = Pixels(), slice(BORDER, -BORDER)

        def batch(random: np.random.Generator) -> tuple[Array, Array]:
            chosen = random.choice(train, size - other)
            images, (wanted,) = features.pixels(chosen), features.take(chosen)
            if natural is not None and other:
                drawn = natural.draw(other, random)
                images = np.concatenate([images, drawn])
                wanted = np.concatenate([wanted, self.features.encode(drawn)[0]])
            standard = (wanted[:, inner, inner] - mean) * rate
            return images, np.ascontiguousarray(standard.transpose(0, 3, 1, 2), np.float32)

        def step(given: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            apart: torch.Tensor = teacher(pixels(given[0])) - given[1]
            return apart.square().mean()

        with seeded(self.seed, "teacher"):
            teacher = patch_description(self.size, outputs, float(self._setting("scale")))
        self._go(teacher, step, batch, int(self._setting("distillation_steps")), "teacher", [pixels])
        # Its outputs are normalised over the training normals (section 3.2).
        sample = [features.pixels(train[start : start + 4]) for start in range(0, min(len(train), 64), 4)]
        with torch.inference_mode():
            rows = torch.cat(
                [teacher(pixels(torch.from_numpy(images))).transpose(0, 1).flatten(1) for images in sample], 1
            )
        return Normalised(teacher, rows.mean(1).clone(), rows.std(1).clone())

    def _imitate(
        self, features: Features, train: Array, natural: NaturalImages | None, teacher: torch.nn.Module
    ) -> Any:
        """Teach student and auto-encoder, one image a step (sections 3.2 and 3.3)."""
        from offnominal.image.networks.efficientad import Branches, hardest
        from offnominal.nets.patch_description import GlobalAutoEncoder, patch_description
        from offnominal.nets.seeding import seeded

        width, scale = features.shapes[0][-1], float(self._setting("scale"))
        with seeded(self.seed, "student"):
            student = patch_description(self.size, width * (2 if self.autoencoder else 1), scale)
            predict = GlobalAutoEncoder(self.image_size, width, min(1.0, 2 * scale))
        branches = Branches(teacher, student, predict if self.autoencoder else None)
        pixels = branches.pixels

        def batch(random: np.random.Generator) -> dict[str, Array]:
            drawn = {"image": features.pixels([int(random.choice(train))])}
            if self.autoencoder:
                drawn["jittered"] = _jittered(drawn["image"], random)
            if natural is not None:
                drawn["natural"] = natural.draw(1, random)
            return drawn

        def step(given: dict[str, torch.Tensor]) -> torch.Tensor:
            image = pixels(given["image"])
            loss = hardest((teacher(image) - student(image)[:, :width]).square(), self.hard)
            if "natural" in given:
                loss = loss + student(pixels(given["natural"]))[:, :width].square().mean()
            if "jittered" in given:
                image = pixels(given["jittered"])
                predicted = predict(image)
                loss = loss + (teacher(image) - predicted).square().mean()
                loss = loss + (predicted.detach() - student(image)[:, width:]).square().mean()
            return loss

        learning = {"student": student} | ({"autoencoder": predict} if self.autoencoder else {})
        self._go(learning, step, batch, int(self._setting("steps")), "student", [pixels, teacher])
        return branches.eval()

    def _go(
        self, models: Any, step: Any, batch: Any, steps: int, name: str, frozen: Sequence[torch.nn.Module]
    ) -> None:
        """One training with Adam."""
        import torch

        from offnominal.nets.batches import Batches
        from offnominal.nets.schedules import drops
        from offnominal.nets.training import train

        length = min(EPOCH, steps)

        def draw(epoch: int, random: np.random.Generator) -> Iterator[Any]:
            return (batch(random) for _ in range(length))

        parts = models.values() if isinstance(models, dict) else [models]
        parameters = [parameter for part in parts for parameter in part.parameters()]
        train(
            models,
            step,
            Batches(length, draw),
            torch.optim.Adam(parameters, lr=float(self._setting("learning_rate"))),
            steps=steps,
            schedule=drops(0.95),
            frozen=frozen,
            seed=self.seed,
            checkpoint=self._part(name),
            label=f"Training the {name}",
        )

    def _part(self, name: str) -> Path | None:
        return None if self._folder is None else self._folder / name

    def _spans(self, branches: Any, features: Features, held: Array) -> list[float]:
        """Distance of two quantiles of each branch's map on held-out normals (section 3.4)."""
        import torch

        with torch.inference_mode():
            maps = [branches(torch.from_numpy(features.pixels([int(view)]))) for view in held]
        spans = []
        for branch in zip(*maps, strict=True):
            low, high = np.quantile(torch.stack(branch).numpy(), (0.9, 0.995)).tolist()
            spans.append(max(high - low, 0.01 * low, LEAST))
        return spans

    def _inputs(self, batch: ImageBatch) -> list[Array]:
        return [batch.pixels]

    def _graph_inputs(self, graph: Graph) -> list[Value]:
        return [graph.pixels]

    @property
    def _computes_in(self) -> str:
        return choose("openvino", self.precision, tolerant=True)[1]

    def _environment(self) -> dict[str, Any]:
        return {"runtime": "openvino", "precision": self._computes_in}

    def _restored(self) -> None:
        from offnominal.nets.compiled import Compiled

        self._network = Compiled(self.network_, self._computes_in)


def _jittered(pixels: Array, random: np.random.Generator) -> Array:
    """One of brightness, contrast and saturation, changed by a factor of 0.8 to 1.2."""
    factor = random.uniform(0.8, 1.2)
    grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    towards = (0.0, grey.mean(), grey[..., None])[int(random.integers(3))]
    return np.clip(towards + factor * (pixels - towards), 0, 255).astype(np.float32)
