"""Image files of a folder or a glob, in natural order, and what could not be listed."""

from __future__ import annotations

import errno
import fnmatch
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import has_magic

from offnominal.data.decode import SUFFIXES

_ENTRIES = 16  # how often one folder may be entered through links before it counts as a trap

Parts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A file, or a folder that could not be listed.

    Attributes
    ----------
    path : str
        As the system names it.
    parts : tuple of str
        Components of the path relative to the root.
    problem : (reason, remedy) or None
        Why it cannot be used, where that is known already.
    """

    path: str
    parts: Parts
    problem: tuple[str, str] | None = None


def natural(parts: Sequence[str]) -> tuple[object, ...]:
    """Sort key: numbers inside names by value, letters without case, ties by the exact name."""
    keys: list[tuple[object, ...]] = []
    for part in parts:
        pieces: list[object] = []
        for number, piece in enumerate(re.split(r"([0-9]+)", part.casefold())):
            digits = piece.lstrip("0")
            pieces.append((len(digits), digits) if number % 2 else piece)
        keys.append(tuple(pieces))
    return (tuple(keys), tuple(parts))


def walk(
    root: str,
    *,
    enter: Callable[[Parts], bool] = lambda parts: True,
    skip: Iterable[str] = (),
) -> list[Found]:
    """List image files below a folder, hidden ones left out.

    Parameters
    ----------
    root : str
    enter : callable
        Whether to enter the folder of these components.
    skip : iterable of str
        Folders that are left out.

    Returns
    -------
    list of Found
        In natural order. A folder that cannot be read and a link back to a folder above are entries with a
        problem; nothing is left out silently.

    Raises
    ------
    OSError
        The root itself cannot be read.
    """
    left_out = {identity for folder in skip if (identity := _identity(folder)) is not None}
    entered: Counter[tuple[int, int]] = Counter()
    found: list[Found] = []
    stack: list[tuple[str, Parts, tuple[tuple[int, int] | None, ...]]] = [(root, (), ())]
    while stack:
        folder, parts, above = stack.pop()
        identity = _identity(folder)
        if identity in left_out and parts:
            continue
        if identity is not None:
            entered[identity] += 1
            if identity in above or entered[identity] > _ENTRIES:
                found.append(
                    Found(folder, parts, ("is a link to a folder that contains it", "remove the link"))
                )
                continue
        try:
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError as error:
            if not parts:
                raise
            found.append(Found(folder, parts, _unlisted(error)))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            here = (*parts, entry.name)
            try:
                is_folder = entry.is_dir()
            except OSError as error:
                found.append(Found(entry.path, here, _unlisted(error)))
                continue
            if is_folder:
                if enter(here):
                    stack.append((entry.path, here, (*above, identity)))
            elif is_image_name(entry.name):
                found.append(Found(entry.path, here))
    return sorted(found, key=lambda entry: natural(entry.parts))


def is_image_name(name: str) -> bool:
    """Whether a file is called like an image."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def expand_glob(pattern: str, skip: Iterable[str] = ()) -> list[Found]:
    """List image files that match a pattern; a folder that matches is taken whole, ``**`` is any depth.

    Names are relative to the last folder before the first wildcard.
    """
    plain = pattern.replace(os.sep, "/")
    pieces = plain.split("/")
    first = next(number for number, piece in enumerate(pieces) if has_magic(piece))
    root = "/".join(pieces[:first]) or ("/" if plain.startswith("/") else ".")
    wanted = tuple(piece for piece in pieces[first:] if piece)
    listed = walk(root, enter=lambda parts: _matches(parts, wanted, partly=True), skip=skip)
    return [entry for entry in listed if _matches(entry.parts, wanted, partly=entry.problem is not None)]


def _matches(parts: Parts, pattern: Parts, *, partly: bool) -> bool:
    """Whether a path or a folder above it matches; ``partly``: or could be above something that does."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return _matches(parts, pattern[1:], partly=partly) or (
            partly if not parts else _matches(parts[1:], pattern, partly=partly)
        )
    if not parts:
        return partly
    return fnmatch.fnmatch(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:], partly=partly)


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _unlisted(error: OSError) -> tuple[str, str]:
    if error.errno == errno.ELOOP:
        return "is a symbolic link that leads back to itself", "remove the link"
    if isinstance(error, FileNotFoundError):
        return "the folder is gone (removed while it was listed)", "list the source again"
    if isinstance(error, PermissionError):
        return "the folder may not be read (permission denied)", "change its permissions"
    return f"the folder cannot be read ({error.strerror or error})", "check the disk or the network share"


def safe_name(parts: Iterable[str]) -> str:
    r"""Posix name of an item that JSON can hold: bytes that are no text appear as ``\udcXX``."""
    return "/".join(parts).encode("utf-8", "backslashreplace").decode("utf-8")


def unique(names: Iterable[str]) -> Iterator[str]:
    """Make names unique by a number behind repeats: ``a.png``, ``a.png#2``."""
    listed = list(names)
    taken = set(listed)
    seen: Counter[str] = Counter()
    for name in listed:
        seen[name] += 1
        if seen[name] == 1:
            yield name
            continue
        number = seen[name]
        while (candidate := f"{name}#{number}") in taken:
            number += 1
        taken.add(candidate)
        yield candidate
