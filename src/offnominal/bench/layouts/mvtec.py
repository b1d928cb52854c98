"""MVTec AD's folder form: ``train/good``, ``test/<kind>``, ``ground_truth/<kind>``.

Many data sets are published in it. Masks carry the image's stem, with or without ``_mask``.
"""

from __future__ import annotations

from pathlib import Path

from .masks import Mask, NoAnomaly, Picture
from .split import DatasetSplit, Entry, assemble, images_in, normals

FOLDERS = ("mvtec_ad", "mvtec", "mvtec_anomaly_detection")


def mask_of(image: Path, folder: Path) -> Mask | None:
    """Mask of an anomalous image in ``folder``, None where there is none."""
    for stem in (f"{image.stem}_mask", image.stem):
        for suffix in (".png", ".bmp", ".tif", ".tiff"):
            if (path := folder / f"{stem}{suffix}").is_file():
                return Picture(path)
    return None


def read_folder(folder: Path, good: str = "good") -> tuple[list[Entry], list[Entry]]:
    """Training and test entries of one category; ``good`` names the folders of normals."""
    truth = folder / "ground_truth"
    train = normals(images_in(folder / "train" / good), masked=truth.is_dir())
    test: list[Entry] = []
    for kind in sorted(path for path in (folder / "test").iterdir() if path.is_dir()):
        for image in images_in(kind):
            if kind.name == good:
                test.append(Entry(image, mask=NoAnomaly() if truth.is_dir() else None))
            else:
                test.append(Entry(image, 1, kind=kind.name, mask=mask_of(image, truth / kind.name)))
    return train, test


def is_category(folder: Path, good: str = "good") -> bool:
    """Whether a folder has MVTec AD's form."""
    return (folder / "train" / good).is_dir() and (folder / "test").is_dir()


def names(folder: Path) -> list[str]:
    """Categories of an MVTec AD folder."""
    return sorted(path.name for path in folder.iterdir() if is_category(path))


def load(name: str, folder: Path, category: str, seed: int) -> DatasetSplit:
    """One category of MVTec AD, official split."""
    train, test = read_folder(folder / category)
    return assemble(
        name,
        folder / category,
        train,
        test,
        seed=seed,
        origin="MVTec AD, Bergmann et al. 2019",
        licence="CC BY-NC-SA 4.0",
        protocol="official",
    )
