"""Reads official weight files and can build arrays, nothing else: no torch, no code from the file.

This is the one place that touches the pickle format. The file's hash is compared with a pin before a byte of
it is interpreted; what is then interpreted can name an ordered dictionary, a storage type and two functions
that describe a tensor, all of which are replaced by the plain records below. Nothing named in a file is ever
imported or called.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from offnominal.core.errors import CheckpointRefused
from offnominal.encoders.network import Array

FILE_LIMIT = 8 << 30
PICKLE_LIMIT = 16 << 20
OPCODE_LIMIT = 2_000_000
TENSOR_LIMIT = 100_000
RANK_LIMIT = 8
NAME_LIMIT = 512
NESTING_LIMIT = 16
SHARING_LIMIT = 4  # bytes of all tensors together, in sizes of the file: some networks tie a few of them

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# name of a storage class to the bytes as they lie in the file; bfloat16 is widened after reading
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
# opcodes a state dictionary is written with; all others (instances, extensions, text forms) are refused
# fmt: off
_OPCODES = frozenset((
    "PROTO", "STOP", "FRAME", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BINPERSID", "EMPTY_DICT",
    "EMPTY_TUPLE", "EMPTY_LIST", "MARK", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "SETITEM", "SETITEMS",
    "APPEND", "APPENDS", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1",
    "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET",
    "LONG_BINGET", "BUILD",
))
# fmt: on


class _RefusedError(Exception):
    """Why a file is refused; the reader adds the file's name."""


class _Sealed:
    """What a file's instructions may hold but not alter: without this, BUILD would write into an instance."""

    def __setstate__(self, attributes: object) -> None:
        raise _RefusedError("it tries to alter a record")


@dataclass(frozen=True)
class _StorageType(_Sealed):
    """Stands for torch's storage class."""

    layout: str

    @property
    def width(self) -> int:
        return 2 if self.layout == "bfloat16" else np.dtype(self.layout).itemsize


@dataclass(frozen=True)
class _Storage(_Sealed):
    """A run of numbers in the file: its key, its type and how many there are."""

    key: str
    type: _StorageType
    count: int


@dataclass(frozen=True)
class _Tensor(_Sealed):
    """A view of a storage, in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Function(_Sealed):
    """Stands for one of torch's functions. A plain function would be open to BUILD."""

    call: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)


class _State(dict):  # type: ignore[type-arg]
    """Stands for an ordered dictionary; torch hangs ``_metadata`` on it, which is dropped."""

    def __setstate__(self, attributes: object) -> None:
        return None


def read_checkpoint(path: str | os.PathLike[str], *, sha256: str) -> dict[str, Array]:
    """Read the tensors of an official weights file: ``.pth`` (old and zip form) or safetensors.

    Parameters
    ----------
    path : path-like
        The file. Only a flat state dictionary is read: names to tensors.
    sha256 : str
        Hexadecimal SHA-256 the file must have, or the first 8 or more digits of it, as official file names
        carry them. It is checked before anything else.

    Returns
    -------
    dict of str to ndarray
        In the file's order. Half precision stays as it is, bfloat16 becomes float32.

    Raises
    ------
    CheckpointRefused
        The file has another hash, is not one of these forms, is damaged, or asks for anything but tensors.
    """
    file = Path(path)
    try:
        data = _read_pinned(file, sha256)
        return _read(data)
    except _RefusedError as error:
        raise CheckpointRefused(f"{file}: {error}") from error
    except OSError as error:
        raise CheckpointRefused(f"{file}: {error.strerror or error}") from error
    except Exception as error:  # every way a damaged file can break a parser is the same news to the caller
        raise CheckpointRefused(f"{file}: damaged or not a weights file ({error}); get it again") from error


def matches(digest: str, pin: str) -> bool:
    """Whether a full hexadecimal SHA-256 fits a pin of at least 8 digits."""
    return len(pin) >= 8 and digest.startswith(pin.lower())


def _read_pinned(file: Path, pin: str) -> bytes:
    size = file.stat().st_size
    if size > FILE_LIMIT:
        raise _RefusedError(f"{size} bytes, at most {FILE_LIMIT} are read")
    data = file.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if not matches(digest, pin):
        raise _RefusedError(
            f"its SHA-256 is {digest}, expected {pin}; it is not the official file, get it again"
        )
    return data


def _read(data: bytes) -> dict[str, Array]:
    if data[:4] == b"PK\x03\x04":
        return _read_zip(data)
    if len(data) >= 9 and data[8:9] == b"{" and struct.unpack("<Q", data[:8])[0] <= len(data) - 8:
        return _read_safetensors(data)
    return _read_legacy(data)


def _read_safetensors(data: bytes) -> dict[str, Array]:
    """Arrays of a safetensors file; bfloat16, which numpy lacks, is widened here."""
    from safetensors import deserialize

    arrays: dict[str, Array] = {}
    layouts = {"F32": "<f4", "F64": "<f8", "F16": "<f2", "BF16": "bfloat16", "I64": "<i8", "I32": "<i4"}
    layouts |= {"I16": "<i2", "I8": "<i1", "U8": "<u1", "BOOL": "?"}
    for name, entry in deserialize(data):  # type: ignore[no-untyped-call]
        if entry["dtype"] not in layouts:
            raise _RefusedError(f"tensor {name} is of type {entry['dtype']}, which is not read")
        arrays[name] = _numbers(bytes(entry["data"]), layouts[entry["dtype"]]).reshape(entry["shape"]).copy()
    return arrays


def _read_zip(data: bytes) -> dict[str, Array]:
    """The zip form: one folder with ``data.pkl`` and a stored file per storage under ``data/``."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members: dict[str, zipfile.ZipInfo] = {}
        total = 0
        for entry in archive.infolist():
            parts = entry.filename.split("/")
            if ".." in parts or "" in parts[:-1] or "\\" in entry.filename or ":" in entry.filename:
                raise _RefusedError(f"member {entry.filename!r} has a path that leaves the archive")
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise _RefusedError(
                    f"member {entry.filename!r} is compressed or encrypted, which torch never writes"
                )
            if entry.compress_size != entry.file_size:
                raise _RefusedError(f"member {entry.filename!r} claims a size it does not have")
            if entry.filename in members:
                raise _RefusedError(f"member {entry.filename!r} occurs twice")
            members[entry.filename] = entry
            total += entry.file_size
        if total > len(data):
            raise _RefusedError("its members claim more bytes than the file has")
        roots = [name[: -len("/data.pkl")] for name in members if name.endswith("/data.pkl")]
        if len(roots) != 1 or "/" in roots[0]:
            raise _RefusedError("it has no single data.pkl; it is not a file of torch.save")
        root = roots[0]
        order = archive.read(f"{root}/byteorder").strip() if f"{root}/byteorder" in members else b"little"
        if order != b"little":
            raise _RefusedError("it was written on a big-endian machine, which is not read")
        state, end = _unpickle(archive.read(f"{root}/data.pkl"), 0)
        if end != members[f"{root}/data.pkl"].file_size:
            raise _RefusedError("data.pkl has something behind its end")

        def numbers(storage: _Storage) -> bytes:
            name = f"{root}/data/{storage.key}"
            if name not in members or members[name].file_size != storage.count * storage.type.width:
                raise _RefusedError(f"storage {storage.key!r} is missing or not of the size the file claims")
            return archive.read(name)

        return _build(state, numbers, len(data))


def _read_legacy(data: bytes) -> dict[str, Array]:
    """The old form: five pickles (magic, protocol, system, state, storage keys), then the raw storages."""
    magic, at = _unpickle(data, 0)
    if magic != _MAGIC:
        raise _RefusedError("neither a file of torch.save nor safetensors")
    protocol, at = _unpickle(data, at)
    system, at = _unpickle(data, at)
    if protocol != _PROTOCOL or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _RefusedError("a protocol or byte order that is not read")
    state, at = _unpickle(data, at)
    keys, at = _unpickle(data, at)
    known = {tensor.storage.key: tensor.storage for tensor in _tensors(state).values()}
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(known):
        raise _RefusedError("its list of storages does not fit its tensors")
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        storage = known[key]
        (count,) = struct.unpack_from("<q", data, at)
        length = storage.count * storage.type.width
        if count != storage.count or at + 8 + length > len(data):
            raise _RefusedError(f"storage {key!r} is cut off or not of the size the file claims")
        places[key] = (at + 8, length)
        at += 8 + length
    if at != len(data):
        raise _RefusedError("it has something behind its last storage")
    view = memoryview(data)

    def numbers(storage: _Storage) -> bytes:
        start, length = places[storage.key]
        return bytes(view[start : start + length])

    return _build(state, numbers, len(data))


def _unpickle(data: bytes, start: int) -> tuple[Any, int]:
    """Interpret one pickle at ``start``; returns its value and where it ends.

    The opcodes are walked first, without effect, so that a claimed length is bounded by the bytes there are
    and only listed opcodes reach the machine.
    """
    window = io.BytesIO(data[start : start + PICKLE_LIMIT])
    end, nesting = -1, _Nesting()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(window)):
        if opcode.name not in _OPCODES:
            raise _RefusedError(f"its pickle uses {opcode.name}, which no weights file needs")
        if count > OPCODE_LIMIT:
            raise _RefusedError(f"its pickle has more than {OPCODE_LIMIT} steps")
        nesting.follow(opcode.name, argument)
        if opcode.name == "STOP":
            end = start + window.tell()
    if end < 0:
        raise _RefusedError("its pickle has no end")
    return _Machine(io.BytesIO(data[start:end])).load(), end


class _Nesting:
    """Follows how deep tuples are nested and how the memo is numbered, without building anything.

    Hashing a tuple recurses on the C stack, and the machine grows its memo to the largest index it meets:
    both have to be bounded before it runs.
    """

    def __init__(self) -> None:
        self.stack: list[int | None] = []  # depth of each value, None for a mark
        self.memo: list[int | None] = []

    def follow(self, name: str, argument: Any) -> None:
        if name == "MARK":
            self.stack.append(None)
        elif name == "TUPLE":
            self._tuple(self._to_mark())
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self._tuple([self.stack.pop() for _ in range(int(name[-1]))])
        elif name in ("SETITEMS", "APPENDS"):
            self._to_mark()
        elif name in ("SETITEM", "REDUCE", "STACK_GLOBAL", "APPEND", "BUILD", "BINPERSID"):
            for _ in range(2 if name in ("SETITEM", "REDUCE", "STACK_GLOBAL") else 1):
                self.stack.pop()
            if name in ("REDUCE", "STACK_GLOBAL", "BINPERSID"):
                self.stack.append(0)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            if name != "MEMOIZE" and argument != len(self.memo):
                raise _RefusedError("its pickle numbers its memo out of order")
            self.memo.append(self.stack[-1])
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name not in ("PROTO", "FRAME", "STOP"):
            self.stack.append(0)

    def _to_mark(self) -> list[int | None]:
        taken: list[int | None] = []
        while (depth := self.stack.pop()) is not None:
            taken.append(depth)
        return taken

    def _tuple(self, inside: list[int | None]) -> None:
        if None in inside:
            raise _RefusedError("its pickle takes a mark for a value")
        deepest = 1 + max((depth for depth in inside if depth is not None), default=0)
        if deepest > NESTING_LIMIT:
            raise _RefusedError(f"its pickle nests deeper than {NESTING_LIMIT}")
        self.stack.append(deepest)


class _Machine(pickle.Unpickler):
    """An unpickler to which every name in the file is foreign but the listed few."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "collections" and name == "OrderedDict":
            return _Function(_ordered)
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return _Function(_tensor)
        if module == "torch._utils" and name == "_rebuild_parameter":
            return _Function(_parameter)
        if module == "torch" and name in _STORAGES:
            return _StorageType(_STORAGES[name])
        raise _RefusedError(f"it asks for {module[:80]}.{name[:80]}; only tensors are read")

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise _RefusedError("a storage is described in a form that is not read")
        kind, key, count = pid[1], pid[2], pid[4]
        if len(pid) == 6 and pid[5] is not None:
            raise _RefusedError("it shares storages in a form that is not read")
        if not isinstance(kind, _StorageType) or not isinstance(key, str) or not key.isalnum():
            raise _RefusedError("a storage has a type or key that is not read")
        if type(count) is not int or not 0 <= count * kind.width <= FILE_LIMIT:
            raise _RefusedError(f"storage {key!r} claims {count} numbers")
        return _Storage(key, kind, count)


def _ordered(*arguments: Any) -> _State:
    if arguments:
        raise _RefusedError("an ordered dictionary is built in a form that is not read")
    return _State()


def _tensor(*arguments: Any) -> _Tensor:
    if len(arguments) not in (6, 7):
        raise _RefusedError("a tensor is described in a form that is not read")
    storage, offset, shape, strides = arguments[:4]
    for numbers in (shape, strides):
        whole = isinstance(numbers, tuple) and all(type(number) is int and number >= 0 for number in numbers)
        if not whole or len(numbers) > RANK_LIMIT:
            raise _RefusedError("a tensor has a shape or strides that are not read")
    if not isinstance(storage, _Storage) or type(offset) is not int or offset < 0:
        raise _RefusedError("a tensor has no storage or a bad offset")
    if len(shape) != len(strides):
        raise _RefusedError("a tensor's strides do not fit its shape")
    size, last = 1, offset
    for side, stride in zip(shape, strides, strict=True):
        size *= side
        last += max(side - 1, 0) * stride
    if (size and last >= storage.count) or size > storage.count:
        raise _RefusedError(f"a tensor reaches outside its storage {storage.key!r}")
    return _Tensor(storage, offset, shape, strides)


def _parameter(*arguments: Any) -> _Tensor:
    if len(arguments) != 3 or not isinstance(arguments[0], _Tensor):
        raise _RefusedError("a parameter is described in a form that is not read")
    return arguments[0]


def _tensors(state: Any) -> Mapping[str, _Tensor]:
    """Check that a state is a flat dictionary of named tensors whose storages agree."""
    if not isinstance(state, dict):
        raise _RefusedError("it holds no state dictionary at its top")
    if not 0 < len(state) <= TENSOR_LIMIT:
        raise _RefusedError(f"it holds {len(state)} tensors; 1 to {TENSOR_LIMIT} are read")
    storages: dict[str, _Storage] = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or len(name) > NAME_LIMIT or not isinstance(tensor, _Tensor):
            raise _RefusedError("its dictionary holds something else than named tensors")
        if storages.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise _RefusedError(f"storage {tensor.storage.key!r} is described in two ways")
    return state


def _numbers(raw: bytes, layout: str) -> Array:
    if layout != "bfloat16":
        return np.frombuffer(raw, layout)
    # bfloat16 is the upper half of a float32
    return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)


def _build(state: Any, read: Callable[[_Storage], bytes], size: int) -> dict[str, Array]:
    """Cut every tensor out of its storage, as an array of its own, within a bound set by the file's size."""
    tensors = _tensors(state)
    total = sum(math.prod(tensor.shape) * tensor.storage.type.width for tensor in tensors.values())
    if total > SHARING_LIMIT * size:
        raise _RefusedError(f"its tensors hold {total} bytes, which cannot come from a file of {size}")
    storages: dict[str, Array] = {}
    arrays: dict[str, Array] = {}
    for name, tensor in tensors.items():
        storage = tensor.storage
        if storage.key not in storages:
            storages[storage.key] = _numbers(read(storage), storage.type.layout)
        numbers = storages[storage.key]
        if len(numbers) != storage.count:  # the strides were checked against this count
            raise _RefusedError(f"storage {storage.key!r} is cut off")
        steps = tuple(stride * numbers.itemsize for stride in tensor.strides)
        view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, steps, writeable=False)
        arrays[name] = view.copy()
    return arrays
