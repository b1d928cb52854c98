"""Features of the training images, for methods that train a network on them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadItem, BadItems
from offnominal.core.seeds import generator
from offnominal.core.source import Source
from offnominal.data import prefetch
from offnominal.pipeline import Mapped

if TYPE_CHECKING:
    from offnominal.image.encoded import EncodedImageDetector

Array = npt.NDArray[Any]


class Features:
    """What the frozen encoder makes of every training view, computed by the CPU runtime in one pass.

    They are held as float32 while they fit into the budget, else as float16; what does not fit even so is
    computed again each time it is taken.

    Parameters
    ----------
    detector : EncodedImageDetector
        Whose encoder, head and preparation are used.
    source : Source
        Usable training items only.
    budget : float
        Mebibytes of features that may be held.
    positions : int, optional
        Keep so many random positions of each view, for methods that train on single positions; None keeps
        the whole grid.

    Attributes
    ----------
    count : int
        Views (an image is one, unless it is cut into tiles).
    shapes : list of tuple
        Shape of each output of the head for one view: (h, w, c), or (positions, c).
    held : {"float32", "float16", "nothing"}
    means, deviations : list of ndarray (c,)
        Of each output's channels, over all positions of all views.
    products : list of str or None
        What each view is of, where the source says.
    digest : str
        Tells other training data apart.
    """

    def __init__(
        self,
        detector: EncodedImageDetector,
        source: Source,
        *,
        budget: float,
        positions: int | None = None,
    ) -> None:
        self._detector = detector
        self._source = source
        self._positions = positions
        self._views: list[tuple[int, int]] = []
        self._parts: list[list[Array]] = []
        self.held = "float32"
        room = budget * 2**20
        used = 0
        sums: list[Array] = []
        squares: list[Array] = []
        sizes: list[int] = []
        digest = hashlib.sha256()
        for where, batch in detector._batches(source, range(len(source)), label="Encoding"):
            first = len(self._views)
            for position, views in zip(where, batch.views, strict=True):
                self._views += [(position, number) for number in range(len(views.boxes))]
            whole = detector.features.encode(batch.pixels)
            digest.update(whole[-1].mean(axis=tuple(range(1, whole[-1].ndim - 1))).tobytes())
            if not sums:
                sums = [np.zeros(level.shape[-1]) for level in whole]
                squares = [np.zeros(level.shape[-1]) for level in whole]
                sizes = [0 for _ in whole]
            for number, level in enumerate(whole):
                rows = level.reshape(-1, level.shape[-1]).astype(np.float64)
                sums[number] += rows.sum(axis=0)
                squares[number] += np.einsum("ij,ij->j", rows, rows)
                sizes[number] += len(rows)
            kept = self._chosen(whole, range(first, len(self._views)))
            self.shapes = [level.shape[1:] for level in kept]
            if self.held == "nothing":
                continue
            kind = np.float32 if self.held == "float32" else np.float16
            self._parts.append([level.astype(kind) for level in kept])
            used += sum(level.nbytes for level in self._parts[-1])
            if used > room and self.held == "float32":
                self._parts = [[level.astype(np.float16) for level in part] for part in self._parts]
                self.held, used = "float16", used // 2
            if used > room:
                self._parts, self.held = [], "nothing"
        self.count = len(self._views)
        self.means = [total / size for total, size in zip(sums, sizes, strict=True)]
        self.deviations = [
            np.sqrt(np.maximum(square / size - mean**2, 0))
            for square, size, mean in zip(squares, sizes, self.means, strict=True)
        ]
        self.digest = digest.hexdigest()
        self.products = [source.references[position].product for position, _ in self._views]
        if self._parts:
            self._parts = [[np.concatenate(level) for level in zip(*self._parts, strict=True)]]

    def take(self, indices: npt.NDArray[np.intp] | Sequence[int]) -> list[Array]:
        """Features of views: one float32 array (n, …) for each output of the head."""
        if self._parts:
            return [level[indices].astype(np.float32) for level in self._parts[0]]
        return self._chosen(self._detector.features.encode(self.pixels(indices)), indices)

    def rows(self, count: int, random: np.random.Generator) -> Array:
        """Random positions (count, c) of random views, of a head with one output, float32."""
        (shape,) = self.shapes
        each = int(np.prod(shape[:-1]))
        if self._parts:
            return (
                self._parts[0][0]
                .reshape(-1, shape[-1])[random.integers(self.count * each, size=count)]
                .astype(np.float32)
            )
        few = random.choice(self.count, min(self.count, max(4, count // each)), replace=False)
        (block,) = self.take(few)  # each view costs a run of the encoder, so rows come from few
        return block.reshape(-1, shape[-1])[random.integers(len(few) * each, size=count)]

    def pixels(self, indices: npt.NDArray[np.intp] | Sequence[int]) -> Array:
        """Views (n, S, S, 3), float32 in 0…255, read again."""
        wanted = [self._views[int(index)] for index in indices]
        positions = sorted({position for position, _ in wanted})
        read: dict[int, Any] = {}
        for position, item in prefetch(Mapped(self._source, self._detector._prepare), positions):
            if isinstance(item, BadItem):
                raise BadItems([item])
            read[int(position)] = item.value
        return np.stack([read[position].pixels[number] for position, number in wanted])

    def _chosen(self, whole: list[Array], indices: Sequence[int] | npt.NDArray[np.intp]) -> list[Array]:
        """The whole grids, or the positions drawn for each view."""
        if self._positions is None:
            return whole
        found = []
        for level in whole:
            rows = level.reshape(len(level), -1, level.shape[-1])
            count = min(self._positions, rows.shape[1])
            drawn = [
                generator(self._detector.seed, "features", str(int(index))).permutation(rows.shape[1])[:count]
                for index in indices
            ]
            found.append(np.stack([view[places] for view, places in zip(rows, drawn, strict=True)]))
        return found
