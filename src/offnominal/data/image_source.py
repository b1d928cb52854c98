"""Image sources: anything that names images, as a lazy sequence of items."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from glob import has_magic
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadItem, BadSource
from offnominal.core.source import Item, Reference
from offnominal.data import manifest
from offnominal.data.arrays import as_image, split_array
from offnominal.data.decode import SUFFIXES, decode
from offnominal.data.limits import Limits, RefusalError
from offnominal.data.listing import Found, expand_glob, safe_name, unique, walk
from offnominal.data.masks import Colours, pair, read_mask

OnBad = Literal["raise", "skip"]
Masks = str | os.PathLike[str] | Callable[[str], Any] | Sequence[Any] | None
PerItem = Sequence[Any] | npt.NDArray[Any] | Mapping[str, Any] | Callable[[str], Any] | None


@dataclass(frozen=True, slots=True)
class _Entry:
    reference: Reference
    path: str | None = None
    array: Any = None
    problem: tuple[str, str] | None = None
    mask: Any = None
    colours: Colours | None = None


class ImageSource:
    """A lazy sequence of images; made by `images`.

    Attributes
    ----------
    name : str
        The source as the user named it.
    modality : str
        ``"image"``.
    on_bad : {"raise", "skip"}
        What `Detector.fit` does about items that cannot be used; reading one raises `BadItem` either way.
    limits : Limits
        What an image may cost.
    """

    modality = "image"

    def __init__(self, name: str, entries: Sequence[_Entry], on_bad: OnBad, limits: Limits) -> None:
        self.name = name
        self.on_bad: OnBad = on_bad
        self.limits = limits
        self._entries = tuple(entries)
        self._references = tuple(entry.reference for entry in self._entries)

    @property
    def references(self) -> Sequence[Reference]:
        """One reference an item, in order; no image is opened for it."""
        return self._references

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"ImageSource({self.name!r}, {len(self)} images)"

    def path(self, position: int) -> str | None:
        """File of an item, None where it is in memory."""
        return self._entries[position].path

    def read(self, position: int) -> Item:
        """Read one image.

        Returns
        -------
        Item
            Its value is (H, W, C), ``uint8``, ``uint16`` or finite ``float32``.

        Raises
        ------
        BadItem
            It cannot be used; the message says why and what to do.
        """
        entry = self._entries[position]
        name = entry.reference.item
        if entry.problem is not None:
            raise BadItem(name, *entry.problem)
        if entry.path is not None:
            return Item(entry.reference, decode(entry.path, item=name, limits=self.limits))
        try:
            return Item(entry.reference, as_image(entry.array, self.limits))
        except RefusalError as refusal:
            raise BadItem(name, refusal.reason, refusal.remedy) from None

    def mask(self, position: int) -> npt.NDArray[np.bool_] | None:
        """Anomaly mask (H, W) of an item, None where the source names none.

        Raises
        ------
        BadItem
            The mask cannot be read.
        """
        entry = self._entries[position]
        if entry.mask is None:
            return None
        if isinstance(entry.mask, str | os.PathLike):
            return read_mask(os.fspath(entry.mask), entry.reference.item, entry.colours, self.limits)
        given = np.asarray(entry.mask)
        marked: npt.NDArray[np.bool_] = np.not_equal(given.max(axis=2) if given.ndim == 3 else given, 0)
        if marked.ndim != 2:
            raise BadItem(entry.reference.item, f"its mask has shape {marked.shape}", "give masks as (H, W)")
        return marked

    def subset(self, positions: Sequence[int] | npt.NDArray[np.intp]) -> ImageSource:
        """The same source, restricted to the given positions, in that order."""
        chosen = [self._entries[int(position)] for position in positions]
        return ImageSource(self.name, chosen, self.on_bad, self.limits)


def images(
    source: Any,
    *,
    on_bad: OnBad = "raise",
    masks: Masks = None,
    labels: PerItem = None,
    groups: PerItem = None,
    products: PerItem = None,
    limits: Limits | None = None,
) -> ImageSource:
    """Make a source of images.

    Parameters
    ----------
    source : path, str, list or array
        - a folder of any layout, read recursively in natural order; hidden files and files that are not
          called like an image are left out. A folder never implies labels;
        - a glob (``"parts/**/*.png"``); a folder that matches is taken whole;
        - an image file, or a list of files and folders, in that order;
        - a manifest: CSV, TSV, JSON or JSON lines with the columns path and, as wanted, label (0, 1 or
          words), mask, group, product, kind, level; paths are relative to the manifest;
        - an array: (H, W) is one image, (N, H, W, C) are N; three axes are one image (H, W, C) where the
          last has at most four entries, else N grey images;
        - a list of arrays (H, W) or (H, W, C), of any sizes.
    on_bad : {"raise", "skip"}, default "raise"
        Whether fitting stops at items that cannot be used, or passes over them.
    masks : folder, callable or sequence, optional
        Anomaly masks: a folder whose files pair with the images by stem, a function of an image's path (or
        name, for arrays) that returns a path, an array or None, or one of these an item. Not black is
        anomalous; masks have the size of their image, and no alpha channel.
    labels, groups, products : sequence, mapping or callable, optional
        One value an item, or by item name: 0 normal, 1 anomalous, -1 unknown · what stays together in a
        split · product kind. They replace what a manifest says.
    limits : Limits, optional
        What an image may cost before it is refused.

    Raises
    ------
    BadSource
        There is nothing, or nothing that is understood, at ``source``.
    """
    if on_bad not in ("raise", "skip"):
        raise ValueError(f"on_bad must be 'raise' or 'skip', got {on_bad!r}")
    mask_folder = os.fspath(masks) if isinstance(masks, str | os.PathLike) else None
    name, entries, parts = _entries(source, () if mask_folder is None else (mask_folder,))
    if not entries:
        raise BadSource(
            f"{name}: no image found; files ending in {', '.join(sorted(SUFFIXES))} are looked for"
        )
    named = unique(entry.reference.item for entry in entries)
    entries = [
        replace(entry, reference=replace(entry.reference, item=item, source=name))
        for entry, item in zip(entries, named, strict=True)
    ]
    entries = _marked(entries, parts, masks, mask_folder)
    for field, given in (("label", labels), ("group", groups), ("product", products)):
        entries = _assigned(entries, field, given)
    return ImageSource(name, entries, on_bad, limits or Limits())


def _entries(source: Any, skip: Sequence[str]) -> tuple[str, list[_Entry], list[Sequence[str]]]:
    """Name of a source, its items, and the components by which masks are paired."""
    if isinstance(source, bytes):
        source = os.fsdecode(source)
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        path = os.fsdecode(text) if isinstance(text, bytes) else text
        name = safe_name([path])
        if os.path.splitext(path)[1].lower() in manifest.SUFFIXES and os.path.isfile(path):
            return name, *_from_manifest(path)
        return name, *_from_found(_find(path, skip))
    if isinstance(source, list | tuple):
        if not source:
            raise BadSource("an empty list holds no images")
        paths = [isinstance(entry, str | bytes | os.PathLike) for entry in source]
        if all(paths):
            return "list", *_from_paths([os.fsdecode(entry) for entry in source], skip)
        if any(paths):
            raise BadSource("a list of images holds either paths or arrays, not both")
        return "list", *_from_arrays(list(source))
    if hasattr(source, "__array__") or hasattr(source, "__array_interface__"):
        return "array", *_from_arrays(split_array(np.asarray(source)))
    raise BadSource(
        f"images cannot come from {type(source).__name__}; give a folder, a glob, a path, a manifest, "
        "an array, or a list of paths or arrays"
    )


def _find(path: str, skip: Sequence[str]) -> list[Found]:
    try:
        if os.path.isdir(path):
            return walk(path, skip=skip)
        if os.path.lexists(path):
            return [Found(path, (os.path.basename(path),))]
        if has_magic(path):
            return expand_glob(path, skip)
    except OSError as error:
        raise BadSource(f"{safe_name([path])}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:  # a null byte in the name
        raise BadSource(f"{path!r}: not a path ({error})") from error
    if "://" in path:
        raise BadSource(f"{path}: images are read from this machine's files; download it first")
    raise BadSource(f"{safe_name([path])}: no such file or folder")


def _from_found(found: Sequence[Found]) -> tuple[list[_Entry], list[Sequence[str]]]:
    entries = []
    for entry in found:
        item = safe_name(entry.parts) + ("/" if entry.problem and os.path.isdir(entry.path) else "")
        entries.append(_Entry(Reference(item, ""), entry.path, problem=entry.problem))
    return entries, [entry.parts for entry in found]


def _from_paths(paths: Sequence[str], skip: Sequence[str]) -> tuple[list[_Entry], list[Sequence[str]]]:
    """Items of a list, named relative to the deepest folder they share; folders in it are taken whole."""
    found: list[Found] = []
    for path in paths:
        if os.path.isdir(path):
            try:
                found += [replace(entry, parts=()) for entry in walk(path, skip=skip)]
            except OSError as error:
                reason = f"the folder cannot be read ({error.strerror or error})"
                found.append(Found(path, (), (reason, "change its permissions")))
        else:
            found.append(Found(path, ()))
    parts = _relative([entry.path for entry in found])
    return _from_found([replace(entry, parts=own) for entry, own in zip(found, parts, strict=True)])


def _relative(paths: Sequence[str], root: str | None = None) -> list[tuple[str, ...]]:
    """Components of paths below ``root``, or below the deepest folder all share with it."""
    absolute = [os.path.abspath(path) for path in paths]
    folders = [os.path.dirname(path) for path in absolute]
    try:
        shared = os.path.commonpath([*folders, *([] if root is None else [os.path.abspath(root)])])
    except ValueError:  # several drives
        return [tuple(piece for piece in path.replace(":", "").split(os.sep) if piece) for path in absolute]
    return [tuple(os.path.relpath(path, shared).split(os.sep)) for path in absolute]


def _from_manifest(path: str) -> tuple[list[_Entry], list[Sequence[str]]]:
    try:
        rows = manifest.read_manifest(path)
    except OSError as error:
        raise BadSource(f"{path}: cannot be read ({error.strerror or error})") from error
    if not rows:
        raise BadSource(f"{path}: the manifest names no image")
    parts = _relative([row.path for row in rows], os.path.dirname(path) or ".")
    entries = [
        _Entry(
            Reference(
                safe_name(own),
                "",
                group=row.group,
                product=row.product,
                label=row.label,
                kind=row.kind,
                level=row.level,
            ),
            row.path,
            mask=row.mask,
            colours=row.colours,
        )
        for row, own in zip(rows, parts, strict=True)
    ]
    return entries, list(parts)


def _from_arrays(arrays: Sequence[Any]) -> tuple[list[_Entry], list[Sequence[str]]]:
    entries = [_Entry(Reference(str(i), "", index=i), array=array) for i, array in enumerate(arrays)]
    return entries, [(str(i),) for i in range(len(arrays))]


def _marked(
    entries: list[_Entry], parts: Sequence[Sequence[str]], masks: Masks, folder: str | None
) -> list[_Entry]:
    if masks is None:
        return entries
    if folder is not None:
        found: Sequence[Any] = pair(parts, folder)
    elif callable(masks):
        found = [masks(entry.path if entry.path is not None else entry.reference.item) for entry in entries]
    else:
        assert not isinstance(masks, str | os.PathLike)
        found = masks
        if len(found) != len(entries):
            raise ValueError(f"{len(found)} masks for {len(entries)} images")
    return [
        entry if mask is None else replace(entry, mask=mask, colours=None)
        for entry, mask in zip(entries, found, strict=True)
    ]


def _assigned(entries: list[_Entry], field: str, given: PerItem) -> list[_Entry]:
    """Give a field of each reference its value; an item a mapping does not name keeps what it has."""
    if given is None:
        return entries
    if isinstance(given, Mapping):
        known = {entry.reference.item for entry in entries}
        if missing := sorted(str(name) for name in given if name not in known):
            raise ValueError(f"{field}s name {missing[0]!r}, which is not an item of the source")
        values = [given.get(entry.reference.item, getattr(entry.reference, field)) for entry in entries]
    elif callable(given):
        values = [given(entry.reference.item) for entry in entries]
    else:
        if len(given) != len(entries):
            raise ValueError(f"{len(given)} {field}s for {len(entries)} images")
        values = list(given)
    if field == "label":
        values = [int(value) for value in values]
        if strange := sorted(set(values) - {-1, 0, 1}):
            raise ValueError(f"labels are 0 normal, 1 anomalous or -1 unknown, got {strange[0]}")
    else:
        values = [None if value is None else str(value) for value in values]
    return [
        replace(entry, reference=replace(entry.reference, **{field: value}))
        for entry, value in zip(entries, values, strict=True)
    ]
