from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offnominal.core.errors import ModelRefused
from offnominal.core.store import (
    atomic_path,
    is_json,
    read_arrays,
    read_json,
    sha256,
    write_arrays,
    write_json,
    write_text,
)


def test_atomic_path_replaces_only_when_whole(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b.txt"
    write_text(file, "old\n")

    def half() -> None:
        with atomic_path(file) as temporary:
            assert temporary.parent == file.parent
            temporary.write_text("half", encoding="utf-8")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        half()
    assert file.read_bytes() == b"old\n"
    assert list(file.parent.iterdir()) == [file]


def test_atomic_path_survives_an_interrupt(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "x"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_written_files_have_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "x", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_text_has_the_same_line_ends_everywhere(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "one\ntwo ü\n")
    assert (tmp_path / "x").read_bytes() == "one\ntwo ü\n".encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [{"a": -float("inf")}]])
def test_json_that_is_not_json_is_not_written(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", value)
    assert list(tmp_path.iterdir()) == []


def test_json_limits(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    write_json(file, {"a": "b" * 100})
    assert read_json(file) == {"a": "b" * 100}
    with pytest.raises(ModelRefused, match="at most 50"):
        read_json(file, limit=50)
    file.write_text("[" * 200_000, encoding="utf-8")
    with pytest.raises(ModelRefused, match="damaged"):
        read_json(file)
    with pytest.raises(ModelRefused, match="incomplete"):
        read_json(tmp_path / "absent.json")
    with pytest.raises(ModelRefused):
        read_json(tmp_path)


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    arrays = {
        "f32": np.arange(12, dtype=np.float32).reshape(3, 4).T,  # not contiguous
        "f64": np.array([np.pi]),
        "i64/table": np.arange(3),
        "u8": np.zeros((0, 3), np.uint8),
        "bool": np.array([True, False]),
    }
    write_arrays(file, arrays)
    found = read_arrays(file)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_damaged_arrays_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    write_arrays(file, {"a": np.arange(100)})
    whole = file.read_bytes()
    with pytest.raises(ModelRefused, match="at most 10"):
        read_arrays(file, limit=10)
    for data in (
        b"",
        whole[:-1],
        whole[:20],
        whole + b"x",
        b"\xff" * 64,
        (2**62).to_bytes(8, "little") + b"{}",
    ):
        file.write_bytes(data)
        with pytest.raises(ModelRefused):
            read_arrays(file)
    with pytest.raises(ModelRefused, match="incomplete"):
        read_arrays(tmp_path / "absent")


_FULL = """
import resource, signal, sys
import numpy as np
from offnominal.core.store import write_arrays
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_arrays(sys.argv[1], {"a": np.zeros(1000)})
except OSError as error:
    print(error.errno, error.filename)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_arrays_that_cannot_be_written_are_an_error_of_the_system(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    said = subprocess.run(
        [sys.executable, "-c", _FULL, str(file)], capture_output=True, text=True, check=True
    ).stdout
    assert said.strip() == f"{errno.EFBIG} {file}"
    assert list(tmp_path.iterdir()) == []


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_is_json_is_what_json_writes(value: Any) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        assert not is_json(value)
    else:
        assert is_json(value)


@pytest.mark.parametrize("value", [object(), {1: 2}, b"x", np.float32(1), np.zeros(2), {1, 2}])
def test_is_json_refuses_the_rest(value: Any) -> None:
    assert not is_json(value)
    assert not is_json([value])
