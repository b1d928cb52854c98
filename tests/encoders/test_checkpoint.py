"""Official weight files become arrays; anything else in them is refused and nothing is run."""

from __future__ import annotations

import builtins
import hashlib
import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offnominal.core.errors import CheckpointRefused
from offnominal.encoders.checkpoint import read_checkpoint

torch = pytest.importorskip("torch", reason="torch writes the reference files")


def read(path: Path) -> dict[str, np.ndarray]:
    return read_checkpoint(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def sample() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 6, generator=generator)
    return OrderedDict(
        weight=base,
        view=base.T[1:3],
        parameter=torch.nn.Parameter(torch.randn(3, generator=generator)),
        half=torch.randn(5, generator=generator).half(),
        brain=torch.randn(5, generator=generator).bfloat16(),
        double=torch.randn(2, 2, generator=generator).double(),
        count=torch.tensor(7),
        bytes=torch.arange(5, dtype=torch.uint8),
        flags=torch.tensor([True, False]),
        empty=torch.zeros(0, 3),
    )


def write(path: Path, state: Any, legacy: bool) -> Path:
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [True, False])
def test_reads_what_torch_reads(tmp_path: Path, legacy: bool) -> None:
    state = sample()
    arrays = read(write(tmp_path / "a.pth", state, legacy))
    assert list(arrays) == list(state)
    for name, tensor in state.items():
        expected = tensor.detach()
        expected = expected.float() if tensor.dtype == torch.bfloat16 else expected
        assert arrays[name].dtype == expected.numpy().dtype
        np.testing.assert_array_equal(arrays[name], expected.numpy())
        assert arrays[name].flags.owndata or arrays[name].base.flags.owndata


@pytest.mark.parametrize("legacy", [True, False])
def test_reads_a_modules_state_with_its_metadata(tmp_path: Path, legacy: bool) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    arrays = read(write(tmp_path / "a.pth", module.state_dict(), legacy))
    assert arrays.keys() == module.state_dict().keys()


def test_reads_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {name: value.detach().clone().contiguous() for name, value in sample().items()}
    save_file(state, tmp_path / "a.safetensors")
    arrays = read(tmp_path / "a.safetensors")
    for name, tensor in state.items():
        np.testing.assert_array_equal(arrays[name], tensor.float().numpy())


@pytest.mark.parametrize("pin", ["0" * 64, "00000000", "", "abc"])
def test_the_hash_is_checked_first(tmp_path: Path, pin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.pth", sample(), True)

    def never(*arguments: object) -> None:
        raise AssertionError("interpreted a file with the wrong hash")

    monkeypatch.setattr("offnominal.encoders.checkpoint._read", never)
    with pytest.raises(CheckpointRefused, match="SHA-256"):
        read_checkpoint(path, sha256=pin)


def test_a_short_pin_of_an_official_name_is_enough(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", sample(), True)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(read_checkpoint(path, sha256=digest[:8])) == len(sample())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefused, match=r"none\.pth"):
        read_checkpoint(tmp_path / "none.pth", sha256="0" * 64)


# ---- hostile files


ran: list[object] = []


def _touch(*arguments: object) -> None:
    ran.append(arguments)


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


HOSTILE = {
    "os.system": Call(os.system, "touch /tmp/never"),
    "eval": Call(builtins.eval, "1/0"),
    "exec": Call(builtins.exec, "raise SystemExit"),
    "getattr": Call(getattr, Call(__import__, "os"), "system"),
    "own function": Call(_touch, 1),
    "bytearray": Call(bytearray, 1 << 40),
    "nested in a list": [Call(os.system, "true")],
    "numpy": np.ones(3),
    "a class": Path("x"),
}


def zipped(path: Path, pickled: bytes, members: dict[str, bytes] | None = None, compress: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr("a/data.pkl", pickled)
        for name, value in (members or {}).items():
            archive.writestr(name, value)
    return path


def legacy(path: Path, state: bytes, keys: bytes = pickle.dumps([], 2), rest: bytes = b"") -> Path:
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in head) + state + keys + rest)
    return path


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_in_a_file_is_called(tmp_path: Path, name: str, protocol: int) -> None:
    pickled = pickle.dumps({"weight": HOSTILE[name]}, protocol)
    for path in (legacy(tmp_path / "a.pth", pickled), zipped(tmp_path / "b.pth", pickled)):
        with pytest.raises(CheckpointRefused):
            read(path)
    assert not ran


TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
TYPE = b"ctorch\nFloatStorage\n"


def number(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def tensor(count: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """Opcodes of one tensor over storage "0"."""
    storage = b"(" + b"X\x07\x00\x00\x00storage" + TYPE + b"X\x01\x00\x00\x000" + b"X\x03\x00\x00\x00cpu"
    storage += number(count) + b"tQ"
    sides = b"(" + b"".join(map(number, shape)) + b"t" + b"(" + b"".join(map(number, strides)) + b"t"
    return TENSOR + b"(" + storage + number(offset) + sides + b"\x89}tR"


def state_of(value: bytes) -> bytes:
    return b"\x80\x02}X\x01\x00\x00\x00w" + value + b"s."


def built(path: Path, value: bytes, present: int = 6) -> Path:
    numbers = np.arange(present, dtype="<f4").tobytes()
    return zipped(path, state_of(value), {"a/data/0": numbers})


def test_the_hand_written_form_is_the_real_one(tmp_path: Path) -> None:
    arrays = read(built(tmp_path / "a.pth", tensor(6, 1, (2, 2), (2, 1))))
    np.testing.assert_array_equal(arrays["w"], [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("count", "offset", "shape", "strides"),
    [
        (1 << 40, 0, (2,), (1,)),
        (1 << 60, 0, (1 << 60,), (1,)),
        (7, 0, (7,), (1,)),
        (6, 5, (2,), (1,)),
        (6, -1, (2,), (1,)),
        (6, 0, (2, 2), (5, 1)),
        (6, 0, (-2,), (1,)),
        (6, 0, (2,), (-1,)),
        (6, 0, (1 << 62, 0), (1, 1)),
        (6, 0, (1 << 30, 1 << 30), (0, 0)),
        (6, 0, (1,) * 9, (1,) * 9),
        (6, 0, (2, 3), (1,)),
        (6, 1 << 80, (1,), (1,)),
        (-1, 0, (1,), (1,)),
    ],
)
def test_a_tensor_cannot_reach_outside_its_storage(
    tmp_path: Path, count: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    with pytest.raises(CheckpointRefused):
        read(built(tmp_path / "a.pth", tensor(count, offset, shape, strides)))


@pytest.mark.parametrize(
    "altered",
    [
        # BUILD writes into the instance dictionary, or sets attributes, unless the record forbids it
        tensor(6, 0, (2,), (1,)) + b"}X\x06\x00\x00\x00offset" + number(-4000) + b"sb",
        tensor(6, 0, (2,), (1,)) + b"N}X\x06\x00\x00\x00offset" + number(-4000) + b"s\x86b",
        TENSOR + b"N}X\x04\x00\x00\x00call" + TYPE + b"s\x86b",
        TENSOR + b"}X\x08\x00\x00\x00__code__Nsb",
        TYPE + b"}X\x06\x00\x00\x00layoutX\x03\x00\x00\x00<f8sb",
    ],
)
def test_a_record_cannot_be_altered_after_it_was_checked(tmp_path: Path, altered: bytes) -> None:
    with pytest.raises(CheckpointRefused):
        read(built(tmp_path / "a.pth", altered))


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02]q\x00h\x00a.",  # a list that holds itself
        b"\x80\x02}q\x00X\x01\x00\x00\x00wh\x00s.",  # a dictionary that holds itself
        b"\x80\x02}r\xff\xff\xff\x7f.",  # a memo index that would make the machine allocate gigabytes
        b"\x80\x02X\xff\xff\xff\x7fabc.",  # a string longer than the file
        b"\x80\x02" + b"(" * 100_000 + b".",
        b"\x80\x02" + b"]" + b"\x85" * 100_000 + b".",
        b"\x80\x02})" + b"\x85" * 1_000_000 + b"Ns.",  # hashing this key would overrun the C stack
        b"\x80\x02}.",
        b"\x80\x02K\x01.",
        b"\x80\x02h\x05.",
        b"cos\nsystem\n.",
        b"\x80\x02(i__builtin__\neval\n.",
        b"",
        b"garbage",
    ],
    ids=lambda value: repr(value[:24]),
)
def test_odd_pickles_are_refused(tmp_path: Path, pickled: bytes) -> None:
    with pytest.raises(CheckpointRefused):
        read(zipped(tmp_path / "a.pth", pickled))
    with pytest.raises(CheckpointRefused):
        read(legacy(tmp_path / "b.pth", pickled))


@pytest.mark.parametrize("name", ["../a/data/0", "/etc/passwd", "a/../../x", "a\\..\\x", "C:/x"])
def test_zip_members_that_leave_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "a.pth", state_of(tensor(1, 0, (1,), (1,))), {"a/data/0": b"\0" * 4, name: b""})
    with pytest.raises(CheckpointRefused, match="leaves the archive"):
        read(path)


def test_zip_bombs_are_refused(tmp_path: Path) -> None:
    value = state_of(tensor(1 << 22, 0, (1 << 22,), (1,)))
    bomb = zipped(tmp_path / "a.pth", value, {"a/data/0": bytes(1 << 24)}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(CheckpointRefused, match="compressed"):
        read(bomb)


def test_a_member_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    path = built(tmp_path / "a.pth", tensor(1 << 20, 0, (1 << 20,), (1,)), present=6)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 4 << 20)  # the central directory's uncompressed size
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointRefused, match="claim"):
        read(path)


def test_many_views_of_one_storage_cannot_fill_the_memory(tmp_path: Path) -> None:
    items = b"".join(
        b"X\x04\x00\x00\x00" + f"{index:04d}".encode() + tensor(5000, 0, (5000,), (1,))
        for index in range(1000)
    )
    path = zipped(tmp_path / "a.pth", b"\x80\x02}(" + items + b"u.", {"a/data/0": bytes(20_000)})
    with pytest.raises(CheckpointRefused, match="cannot come from"):
        read(path)


@pytest.mark.parametrize("old", [True, False])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, old: bool) -> None:
    data = write(tmp_path / "a.pth", sample(), old).read_bytes()
    cut = tmp_path / "cut.pth"
    for length in range(0, len(data), 37):
        cut.write_bytes(data[:length])
        with pytest.raises(CheckpointRefused):
            read(cut)


@pytest.mark.parametrize("old", [True, False])
def test_a_file_with_something_behind_it_is_refused(tmp_path: Path, old: bool) -> None:
    path = write(tmp_path / "a.pth", sample(), old)
    if old:
        path.write_bytes(path.read_bytes() + b"\0")
    else:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, value in members.items():
                archive.writestr(name, value + (b"cos\nsystem\n." if name.endswith("data.pkl") else b""))
    with pytest.raises(CheckpointRefused, match="behind"):
        read(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), old=st.booleans())
def test_damage_never_does_more_than_refuse_or_change_numbers(
    tmp_path: Path, data: st.DataObject, old: bool
) -> None:
    buffer = io.BytesIO()
    torch.save(sample(), buffer, _use_new_zipfile_serialization=not old)
    raw = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "fuzzed.pth"
    path.write_bytes(bytes(raw))
    try:
        arrays = read(path)
    except CheckpointRefused:
        return
    assert all(isinstance(array, np.ndarray) and array.nbytes <= 4 * len(raw) for array in arrays.values())
