"""What the contract suite runs on: every detector of the catalogue, small, and a small source a modality.

To take a detector out of a test, name it in ``EXCLUDED`` with a reason. To add a modality, write a class like
`Images` and put it into ``MODALITIES``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import offnominal as off
from offnominal.core.card import Card
from offnominal.core.seeds import generator
from offnominal.core.source import Source
from offnominal.data import images, tables
from offnominal.detector import Detector

# Parameters that make a detector quick; what a constructor does not have is left out.
QUICK: dict[str, dict[str, Any]] = {
    "image": {"image_size": 64, "precision": "fp32"},
    "table": {},
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "abod": {"neighbours": 6},
    "ae": {"width": 8, "latent": 8, "steps": 40, "batch": 8, "rate": 5e-3},
    "auto": {"members": ("knn", "hbos")},
    "autoencoder": {"hidden": (16,), "steps": 60, "rate": 1e-2},
    "board_ae": {
        "register": False,
        "levels": ("3", "6"),
        "width": 8,
        "code": 8,
        "steps": 40,
        "rate": 5e-3,
        "smoothing": 2.0,
    },
    "feature_bagging": {"neighbours": 4},
    "hbos": {"bins": 6},
    "deep_rpo": {"steps": 60, "hidden": (64,), "latent": 8, "projections": 200},
    "deep_svdd": {"hidden": (32,), "code": 16, "pretraining": 0, "steps": 60, "rate": 1e-2},
    "dfr": {"steps": 60, "batch": 256},
    "efficientad": {
        "levels": ("4", "10"),
        "scale": 0.06,
        "outputs": 16,
        "distillation_steps": 8,
        "steps": 30,
        "learning_rate": 5e-3,
    },
    "embedding_knn": {"levels": ("10",)},
    "fod": {"levels": ("6", "10"), "width": 32, "heads": 2, "depth": 2, "steps": 40},
    "gaussian": {"levels": ("3", "10")},
    "gnl": {
        "levels": ("0", "3", "6"),
        "width": 16,
        "steps": 40,
        "rate": 5e-3,
        "smoothing": 2.0,
    },
    "iforest": {"trees": 200},
    "inp_former": {"levels": ("4", "6", "10"), "stride": 8, "width": 64, "depth": 2, "steps": 40, "batch": 4},
    "inne": {"rounds": 60, "sample": 8},
    "knn": {"neighbours": 3, "aggregate": "mean"},
    "latent_clusters": {
        "grid": 8,
        "latent": 8,
        "side": 32,
        "steps": 40,
        "batch": 8,
        "rate": 3e-3,
        "synthetic": 24,
    },
    "lof": {"neighbours": 8},
    "mambaad": {
        "levels": ("4", "10"),
        "width": 8,
        "depths": (0, 0, 1),
        "directions": 2,
        "state": 2,
        "steps": 40,
        "learning_rate": 1e-2,
        "smoothing": 2.0,
    },
    "mean_shifted": {"levels": ("10",), "steps": 3, "batch": 4},
    "onenip": {
        "levels": ("4", "10"),
        "grid": 8,
        "width": 16,
        "heads": 2,
        "depth": 1,
        "synthetic": 8,
        "steps": 30,
        "batch": 4,
        "learning_rate": 5e-3,
        "smoothing": 2.0,
    },
    "padim": {"levels": ("3", "6"), "dimensions": 24, "smoothing": 2.0},
    "patchcore": {"bank_size": 200, "levels": ("4", "6"), "smoothing": 2.0, "projection": 32},
    "pni": {
        "levels": ("4", "6"),
        "bank_size": 200,
        "distribution": 48,
        "window": 3,
        "hidden": 32,
        "depth": 3,
        "steps": 40,
        "batch": 4,
        "rate": 5e-3,
        "smoothing": 2.0,
    },
    "simplenet": {"levels": ("4", "6"), "steps": 60, "batch": 256, "hidden": 64, "rate": 2e-3},
    "vae": {"width": 8, "latent": 8, "steps": 40, "batch": 8, "rate": 5e-3},
    "vae_gan": {"width": 8, "latent": 8, "steps": 40, "rate": 5e-3},
    "vt_adl": {
        "patch": 8,
        "width": 32,
        "depth": 1,
        "heads": 2,
        "components": 3,
        "channels": 8,
        "steps": 50,
        "rate": 5e-3,
        "smoothing": 2.0,
    },
    "slad": {"groups": 5, "steps": 120, "rate": 1e-2},
    "unicon_ha": {"levels": ("3", "6", "10"), "steps": 2, "batch": 2},
}
#: so few steps that the one item learned is told from those that are off, not yet from its like
BRIEFLY_TRAINED = frozenset({"gnl", "mambaad", "vae", "vae_gan"})
#: (detector, test) → why the test does not apply
EXCLUDED: dict[tuple[str, str], str] = {
    ("embedding_knn", "test_shards_merge_to_the_whole"): "a bank, not sums: see the test of merged banks",
    (
        "abod",
        "test_fit_score_leaves_an_item_out_of_its_own_neighbours",
    ): "its score is a logarithm, not a distance",
    (
        "kde",
        "test_fit_score_leaves_an_item_out_of_its_own_neighbours",
    ): "its score is a logarithm, not a distance",
    ("efficientad", "test_other_weights_are_refused"): "its networks are its own: no encoder at detection",
    ("latent_clusters", "test_items_without_variety"): "a classifier: nothing makes what it saw score lowest",
    ("mean_shifted", "test_other_weights_are_refused"): "its network is its own: no encoder at detection",
    ("unicon_ha", "test_other_weights_are_refused"): "its network is its own: no encoder at detection",
    ("deep_svdd", "test_items_without_variety"): "layers without bias leave rows of zeros where they are",
    (
        "slad",
        "test_p_value_of_a_product_is_that_of_its_own_normals",
    ): "it learns for longer than this suite may take: tests/table/test_trained_vectors.py",
    (
        "slad",
        "test_planted_defects_score_higher",
    ): "it learns for longer than this suite may take: tests/table/test_trained_vectors.py",
    (
        "slad",
        "test_fresh_normals_are_not_called_anomalous_more_often_than_asked",
    ): "it learns for longer than this suite may take: tests/table/test_trained_vectors.py",
    ("slad", "test_items_without_variety"): "all parts of a row of zeros look alike",
    ("gmm", "test_decision_can_be_given"): "its score is minus a log density, which may lie below -1",
    (
        "iforest",
        "test_fit_score_leaves_an_item_out_of_its_own_neighbours",
    ): "a bounded score of small samples",
    ("inne", "test_fit_score_leaves_an_item_out_of_its_own_neighbours"): "a bounded score of small samples",
    ("loda", "test_record_carries_the_map_and_its_places"): "of 24 rows, each leaves the others' histograms",
    ("patchcore", "test_shards_merge_to_the_whole"): "a coreset, not sums: see the test of merged banks",
}


class Images:
    """A board with a fixed pattern; what is off is a blotch of another texture."""

    size = 64

    def picture(self, name: str, number: int, *, defect: bool = False, channels: int = 3) -> Any:
        """One image (H, W, C) and its mask (H, W)."""
        random = generator(7, "contract", name, str(number), str(defect))
        y, x = np.mgrid[: self.size, : self.size] / self.size
        base = 110 + 30 * np.sin(9 * x + 2 * np.sin(5 * y)) + 25 * ((x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.06)
        tint = np.linspace(0.85, 1.1, channels)
        picture = base[..., None] * tint * random.uniform(0.97, 1.03)
        picture = picture + random.normal(0, 4, picture.shape)
        mask = np.zeros((self.size, self.size), bool)
        if defect:
            top, left = random.integers(6, self.size - 22, 2)
            mask[top : top + 16, left : left + 16] = True
            checks = np.where((np.indices((16, 16)) // 3).sum(axis=0) % 2, 235, 20)
            picture[mask] = np.repeat(checks.ravel()[:, None], channels, axis=1)
        return np.clip(np.rint(picture), 0, 255).astype(np.uint8), mask

    def normals(self, count: int, *, name: str = "normal", first: int = 0, channels: int = 3) -> list[Any]:
        """Normal items."""
        return [self.picture(name, first + n, channels=channels)[0] for n in range(count)]

    def defects(self, count: int) -> tuple[list[Any], list[npt.NDArray[np.bool_]]]:
        """Anomalous items and where they are off."""
        found = [self.picture("defect", n, defect=True) for n in range(count)]
        return [item for item, _ in found], [mask for _, mask in found]

    def source(self, items: Sequence[Any], **facts: Any) -> Source:
        """A source of such items; ``products``, ``labels``, ``groups``, ``on_bad`` as `images` takes them."""
        return images(list(items), **facts)

    def broken(self) -> Any:
        """An item that no detector of the modality can use."""
        return np.full((8, 8, 3), np.nan, np.float32)

    def constant(self) -> Any:
        """An item without any content."""
        return np.full((self.size, self.size, 3), 128, np.uint8)

    def extent(self, item: Any) -> tuple[int, ...]:
        """Shape of the map of an item."""
        return tuple(item.shape[:2])


class Tables(Images):
    """Rows of correlated columns; what is off is a run of neighbouring columns."""

    size = 24
    off_columns = 9

    def picture(self, name: str, number: int, *, defect: bool = False, channels: int = 0) -> Any:
        """One row (d,) and which of its columns are off."""
        random = generator(7, "contract", "table", name, str(number), str(defect))
        shared = generator(7, "contract", "table", "pattern").normal(size=(3, self.size))
        row = 10 * np.arange(1, self.size + 1) ** 0.5 + 0.4 * random.normal(size=3) @ shared
        row = row + random.normal(size=self.size)
        mask = np.zeros(self.size, bool)
        if defect:
            first = random.integers(0, self.size - self.off_columns + 1)
            mask[first : first + self.off_columns] = True
            row[mask] += 9 * random.choice([-1, 1], self.off_columns)
        return row, mask

    def source(self, items: Sequence[Any], **facts: Any) -> Source:
        """A source of such rows; ``products``, ``labels``, ``groups``, ``on_bad`` as `tables` takes them."""
        return tables(list(items), **facts)

    def broken(self) -> Any:
        """A row that no detector can use unless told how."""
        return np.where(np.arange(self.size) % 5 == 2, np.nan, 0.0)

    def constant(self) -> Any:
        """A row without any content."""
        return np.full(self.size, 128.0)


MODALITIES = {"image": Images(), "table": Tables()}


@dataclass(frozen=True)
class Case:
    """A detector of the catalogue, its quick parameters and items to try it on."""

    card: Card

    def __str__(self) -> str:
        return f"{self.card.modality}-{self.card.name}"

    @property
    def world(self) -> Images:
        """Items of its modality."""
        return MODALITIES[self.card.modality]

    @property
    def parameters(self) -> dict[str, Any]:
        """Quick parameters."""
        from inspect import signature

        cls = type(off.make(self.card.name, self.card.modality))
        known = signature(cls).parameters
        quick = {key: value for key, value in QUICK[self.card.modality].items() if key in known}
        return quick | PARAMETERS.get(self.card.name, {})

    def make(self, **parameters: Any) -> Detector:
        """A fresh detector."""
        return off.make(self.card.name, self.card.modality, **(self.parameters | parameters))


for _card in off.catalogue():
    if _card.trains:
        EXCLUDED[_card.name, "test_fit_score_leaves_an_item_out_of_its_own_neighbours"] = (
            "a method that trains scores what it learned in sample"
        )
        EXCLUDED[_card.name, "test_groups_of_the_source_stay_together"] = (
            "a method that trains scores what it learned in sample"
        )
        for _test in (
            "test_normals_of_the_fit_calibrate_the_default",
            "test_products_are_calibrated_each_by_itself",
        ):
            EXCLUDED[_card.name, _test] = (
                "a fifth is held out: tests/image/test_trained_images.py has its counts"
            )
    if _card.kind == "detector" and _card.modality == "table":
        EXCLUDED[_card.name, "test_regions_cover_the_defect"] = (
            "its places are columns, not boxes: tests/table/test_table_places.py has them"
        )

DETECTORS = [Case(card) for card in off.catalogue() if card.kind == "detector"]
