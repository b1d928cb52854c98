"""What a benchmark layout hands out: labelled image sources for training, validation and testing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadItem, BadSource
from offnominal.core.seeds import generator
from offnominal.core.source import Item, Reference, Source
from offnominal.data.split import holdout

from .masks import Mask, NoAnomaly


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a data set, with what the data set says of it.

    Attributes
    ----------
    path : Path
        The image.
    label : int
        0 normal, 1 anomalous.
    kind : str or None
        Kind of anomaly.
    group : str or None
        What the image shares with others that must not be split from it (part, place, patient).
    product : str or None
        Product kind.
    mask : Mask or None
        Where the anomaly is; None where the data set does not say.
    """

    path: Path
    label: int = 0
    kind: str | None = None
    group: str | None = None
    product: str | None = None
    mask: Mask | None = None


class LabelledImages:
    """A source of modality "image" over the entries of a layout; images are read by `offnominal.data`.

    Parameters
    ----------
    name : str
        Name of the set and part, as results show it.
    folder : Path
        Item names are paths relative to it.
    entries : sequence of Entry
        The images, in order.
    """

    modality = "image"

    def __init__(self, name: str, folder: Path, entries: Sequence[Entry]) -> None:
        self.name = name
        self.folder = folder
        self.entries = tuple(entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"LabelledImages({self.name!r}, {len(self)} images, {int((self.labels == 1).sum())} anomalous)"

    @property
    def paths(self) -> list[Path]:
        """Paths of the images, in order."""
        return [entry.path for entry in self.entries]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Labels (n,): 0 normal, 1 anomalous."""
        return np.array([entry.label for entry in self.entries], dtype=np.int64)

    @cached_property
    def references(self) -> Sequence[Reference]:
        """One reference an image, in order."""
        return tuple(
            Reference(
                item=entry.path.relative_to(self.folder).as_posix(),
                source=self.name,
                group=entry.group,
                product=entry.product,
                label=entry.label,
                kind=entry.kind,
            )
            for entry in self.entries
        )

    @cached_property
    def _images(self) -> Source:
        from offnominal import data

        return data.images(self.paths)

    def read(self, position: int) -> Item:
        """Read one image; raises `BadItem` where it cannot be used."""
        reference = self.references[position]
        try:
            return Item(reference, self._images.read(position).value)
        except BadItem as bad:
            raise BadItem(reference.item, bad.reason, bad.remedy) from bad

    def mask(self, position: int) -> npt.NDArray[np.bool_] | None:
        """Mask (H, W) of an image at its own size; None where the data set has none for it."""
        entry = self.entries[position]
        return None if entry.mask is None else entry.mask.read(entry.path)

    def subset(self, positions: Sequence[int] | npt.NDArray[np.intp]) -> LabelledImages:
        """The same source, restricted to the given positions, in that order."""
        return LabelledImages(self.name, self.folder, [self.entries[int(at)] for at in positions])


@dataclass(frozen=True)
class DatasetSplit:
    """A data set, cut for training on normals and testing on both.

    ``fitting`` and the normals of ``validation`` together are ``train``: fit on ``train`` for a result,
    on ``fitting`` while something is chosen by its result on ``validation``. Nothing of the test part is
    in either. ``validation`` also holds labelled anomalies where the training part has some.

    Attributes
    ----------
    name : str
        Name, as `load` takes it.
    train : LabelledImages
        All training normals.
    fitting, validation : LabelledImages
        Training normals less the held-out fifth (whole groups) · that fifth and training anomalies.
    test : LabelledImages
        Test images with labels, and masks where there are some.
    origin : str
        Where the data set comes from, to be cited.
    licence : str
        Its licence.
    protocol : str
        How it is split, and what is known to be wrong with it.
    seed : int
        Seed of every random choice.
    """

    name: str
    train: LabelledImages
    fitting: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    origin: str
    licence: str
    protocol: str
    seed: int

    @property
    def has_masks(self) -> bool:
        """Whether any anomalous test image has a mask."""
        return any(entry.label == 1 and entry.mask is not None for entry in self.test.entries)

    def smaller(self, train: int, test: int) -> DatasetSplit:
        """Return a seeded subset for quick looks: at most so many images, test labels in proportion."""
        return replace(
            self,
            train=_thin(self.train, train, self.seed),
            fitting=_thin(self.fitting, train, self.seed),
            validation=_thin(self.validation, test, self.seed),
            test=_thin(self.test, test, self.seed),
        )


def _thin(source: LabelledImages, count: int, seed: int) -> LabelledImages:
    if len(source) <= count:
        return source
    shuffled = generator(seed, source.name, "smaller").permutation(len(source))
    order = shuffled[np.argsort(source.labels[shuffled], kind="stable")]
    # evenly spaced over a list sorted by label keeps the share of each label
    return source.subset(np.sort(order[np.linspace(0, len(order) - 1, count).round().astype(int)]))


def take_groups(entries: Sequence[Entry], share: float, seed: int) -> tuple[list[Entry], list[Entry]]:
    """Split entries at random without cutting a group; none are taken where the share is not positive."""
    if share <= 0:
        return list(entries), []
    references = [Reference(str(entry.path), "", group=entry.group) for entry in entries]
    rest, taken = holdout(references, share, seed)
    return [entries[at] for at in rest], [entries[at] for at in taken]


def assemble(
    name: str,
    folder: Path,
    train: Sequence[Entry],
    test: Sequence[Entry],
    *,
    seed: int,
    origin: str,
    licence: str,
    protocol: str,
    training_anomalies: Sequence[Entry] = (),
) -> DatasetSplit:
    """Make the split of a data set, holding a fifth of the training normals out for validation."""
    for part, entries in (("training", train), ("test", test)):
        if not entries:
            raise BadSource(f"{name}: no {part} images under {folder}; is the data set complete?")
    fitting, held = take_groups(train, 0.2, seed)

    def source(part: str, entries: Sequence[Entry]) -> LabelledImages:
        return LabelledImages(f"{name}:{part}", folder, entries)

    return DatasetSplit(
        name=name,
        train=source("train", train),
        fitting=source("fitting", fitting),
        validation=source("validation", [*held, *training_anomalies]),
        test=source("test", test),
        origin=origin,
        licence=licence,
        protocol=protocol,
        seed=seed,
    )


IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})


def images_in(folder: Path, keep: Callable[[Path], bool] = lambda path: True) -> list[Path]:
    """Image files directly in a folder, sorted by name; an absent folder has none."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and keep(path))


def normals(paths: Sequence[Path], *, masked: bool = False, product: str | None = None) -> list[Entry]:
    """Entries of normal images; ``masked`` where the data set marks anomalous pixels elsewhere."""
    return [Entry(path, product=product, mask=NoAnomaly() if masked else None) for path in paths]
