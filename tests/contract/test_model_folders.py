"""Saved models: whole or refused, and nothing of the user's is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import DETECTORS, Case

import offnominal as off
from offnominal.core import model_folder
from offnominal.core.errors import ModelRefused, NotSavable
from offnominal.core.model_folder import HEADER
from offnominal.core.store import read_arrays, sha256, write_arrays
from offnominal.decide import Conformal
from offnominal.detector import Detector
from offnominal.persistence import OtherEnvironment


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of a saved model, to be damaged."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def _header(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / HEADER).read_text(encoding="utf-8"))
    return found


def _write(folder: Path, header: dict[str, Any], *, honest: bool) -> None:
    """Write a header, ``honest`` with the digest that belongs to it: what a hostile writer would do."""
    if honest:
        header = {**header, "digest": model_folder._digest(header)}
    (folder / HEADER).write_text(json.dumps(header), encoding="utf-8")


def _rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the arrays and make the header agree."""
    arrays = read_arrays(_arrays(folder))
    change(arrays)
    write_arrays(_arrays(folder), arrays)
    header = _header(folder)
    header["arrays"] = {name: [str(a.dtype), list(a.shape)] for name, a in arrays.items()}
    header["arrays_sha256"] = sha256(_arrays(folder))
    _write(folder, header, honest=True)


def _arrays(folder: Path) -> Path:
    """The arrays file of a model folder: there is one."""
    (found,) = folder.glob("arrays-*.safetensors")
    return found


def _rests(folder: Path) -> list[str]:
    """What lies in a folder beside the model."""
    return sorted(entry.name for entry in folder.iterdir())


# -------------------------------------------------------------------------------- what is written


def test_a_model_is_two_plain_files(case: Case, folder: Path) -> None:
    assert _rests(folder) == [_arrays(folder).name, HEADER]
    header = _header(folder)
    assert (header["detector"], header["modality"], header["format"]) == (
        case.card.name,
        case.card.modality,
        1,
    )
    assert set(header["arrays"]) == set(read_arrays(_arrays(folder)))


def test_saving_again_replaces_the_model(case: Case, copy: Path) -> None:
    test = case.world.normals(3, name="other")
    other = case.make(seed=4).fit(case.world.normals(6))
    other.save(copy)
    assert off.load(copy).get_params()["seed"] == 4
    np.testing.assert_allclose(off.load(copy).anomaly_score(test), other.anomaly_score(test), rtol=1e-5)
    assert _rests(copy.parent) == ["copy"], "nothing temporary stays"


def test_what_cannot_be_stored_is_said(case: Case, fitted: Detector, tmp_path: Path) -> None:
    fitted.odd_ = object()  # type: ignore[attr-defined]
    with pytest.raises(NotSavable, match="odd_"):
        fitted.save(tmp_path / "model")
    assert _rests(tmp_path) == []


# -------------------------------------------------------------------------------- damage

FIELDS = (
    "detector", "modality", "version", "params", "learned", "decision", "environment", "format", "arrays",
    "arrays_file", "arrays_sha256", "digest",
)  # fmt: skip


def test_header_has_no_field_that_is_not_tried(case: Case, folder: Path) -> None:
    assert set(_header(folder)) == set(FIELDS)


@pytest.mark.parametrize("field", FIELDS)
def test_changed_header_is_refused(case: Case, copy: Path, field: str) -> None:
    header = _header(copy)
    value = header[field]
    changed = (
        {**value, "more": 1} if isinstance(value, dict) else f"{value}x" if isinstance(value, str) else 0
    )
    _write(copy, {**header, field: changed}, honest=False)
    with pytest.raises(ModelRefused, match=r"changed|damaged"):
        off.load(copy)
    _write(copy, {key: value for key, value in header.items() if key != field}, honest=False)
    with pytest.raises(ModelRefused, match=r"changed|damaged|not a model header"):
        off.load(copy)


@pytest.mark.parametrize("field", [field for field in FIELDS if field not in ("version", "digest")])
@pytest.mark.parametrize("value", [None, [], {}, "x", -1, 10**30, {"x": [1]}], ids=str)
def test_forged_header_never_ends_in_another_error(case: Case, copy: Path, field: str, value: Any) -> None:
    header = _header(copy)
    _write(copy, {**header, field: value}, honest=True)
    try:
        model = off.load(copy)
    except ModelRefused:
        return
    except OtherEnvironment:
        pass
    else:
        assert isinstance(model, Detector)
        harmless = [("decision", None), ("decision", []), ("decision", {}), ("learned", {}), ("params", {}),
                    ("modality", None), ("format", -1)]  # fmt: skip
        nothing_to_compare = field == "environment" and not header["environment"] and isinstance(value, dict)
        assert (field, value) in harmless or nothing_to_compare


@pytest.mark.parametrize(
    "name", ["anomaly_score", "_infer", "__class__", "decision_", "card", "get_params", "a b_"]
)
def test_forged_state_replaces_nothing_but_learned_state(case: Case, copy: Path, name: str) -> None:
    header = _header(copy)
    _write(copy, {**header, "learned": {**header["learned"], name: 3}}, honest=True)
    with pytest.raises(ModelRefused, match="no learned state"):
        off.load(copy)
    _write(copy, header, honest=True)
    _rewrite(copy, lambda arrays: arrays.update({name: np.zeros(3, np.float32)}))
    with pytest.raises(ModelRefused, match="no learned state"):
        off.load(copy)
    _rewrite(copy, lambda arrays: arrays.update({f"{name}/x": arrays.pop(name)}))
    with pytest.raises(ModelRefused, match="no learned state"):
        off.load(copy)


@pytest.mark.parametrize("where", [9, 0.5, -1])
def test_a_flipped_byte_is_refused(case: Case, copy: Path, where: float) -> None:
    data = bytearray(_arrays(copy).read_bytes())
    data[int(where * len(data)) if isinstance(where, float) else int(where)] ^= 0x40
    _arrays(copy).write_bytes(data)
    with pytest.raises(ModelRefused, match="not the file that was written"):
        off.load(copy)


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_truncated_files_are_refused(case: Case, copy: Path, kept: int) -> None:
    for name in (_arrays(copy).name, HEADER):
        whole = (copy / name).read_bytes()
        (copy / name).write_bytes(whole.rstrip()[:kept])
        with pytest.raises(ModelRefused):
            off.load(copy)
        (copy / name).write_bytes(whole)
    off.load(copy)


def test_missing_files_are_refused(case: Case, copy: Path, tmp_path: Path) -> None:
    _arrays(copy).unlink()
    with pytest.raises(ModelRefused, match="incomplete"):
        off.load(copy)
    (copy / HEADER).unlink()
    for place in (copy, tmp_path / "nowhere"):
        with pytest.raises(ModelRefused, match="not a model folder"):
            off.load(place)


def test_newer_format_is_refused_and_says_what_to_do(case: Case, copy: Path) -> None:
    _write(copy, {**_header(copy), "format": model_folder.FORMAT + 1}, honest=True)
    with pytest.raises(ModelRefused, match="update offnominal"):
        off.load(copy)


def test_files_with_other_arrays_are_refused(case: Case, copy: Path) -> None:
    arrays = read_arrays(_arrays(copy))
    header = _header(copy)
    name = next(iter(arrays))
    for changed in (
        {**arrays, "extra_": np.zeros(2, np.float32)},
        {key: value for key, value in arrays.items() if key != name},
        {**arrays, name: arrays[name][None]},
        {**arrays, name: arrays[name].astype(np.float16)},
    ):
        write_arrays(_arrays(copy), changed)
        _write(copy, {**header, "arrays_sha256": sha256(_arrays(copy))}, honest=True)
        with pytest.raises(ModelRefused, match="not those of the header"):
            off.load(copy)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_arrays_that_are_not_finite_are_refused(case: Case, copy: Path, value: float) -> None:
    def spoil(arrays: dict[str, Any]) -> None:
        name = next(key for key, array in arrays.items() if array.dtype.kind == "f")
        arrays[name] = arrays[name].copy()
        arrays[name].reshape(-1)[0] = value

    _rewrite(copy, spoil)
    with pytest.raises(ModelRefused, match="not finite"):
        off.load(copy)


def test_consistent_folder_without_its_arrays_is_refused(case: Case, copy: Path) -> None:
    _rewrite(copy, lambda arrays: [arrays.pop(name) for name in list(arrays) if "decision" not in name])
    with pytest.raises(ModelRefused, match="cannot be rebuilt"):
        off.load(copy)


@pytest.mark.parametrize(
    "name",
    ["../arrays-0123456789abcdef.safetensors", "/etc/passwd", "arrays-0123456789abcdef.safetensors\n",
     "arrays-0123456789ABCDEF.safetensors", "model.json", ""],
)  # fmt: skip
def test_header_names_only_an_arrays_file_of_its_folder(case: Case, copy: Path, name: str) -> None:
    _write(copy, {**_header(copy), "arrays_file": name}, honest=True)
    with pytest.raises(ModelRefused, match="no arrays file of its folder"):
        off.load(copy)


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{", "[" * 100_000, '{"format": "1"}', "\x00"])
def test_strange_headers_are_refused(case: Case, copy: Path, text: str) -> None:
    (copy / HEADER).write_text(text, encoding="utf-8")
    with pytest.raises(ModelRefused):
        off.load(copy)


def test_linked_model_loads_and_swapped_link_does_not(case: Case, copy: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(copy, target_is_directory=True)
    assert off.load(link).fitted_
    secret = tmp_path / "secret"
    secret.write_text("mine", encoding="utf-8")
    arrays = _arrays(copy)
    arrays.unlink()
    arrays.symlink_to(secret)
    with pytest.raises(ModelRefused, match="not the file that was written"):
        off.load(copy)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no such device here")
def test_link_to_a_device_is_refused_before_it_is_read(
    case: Case, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = _arrays(copy)
    arrays.unlink()
    arrays.symlink_to("/dev/zero")
    monkeypatch.setattr(model_folder, "sha256", lambda path: pytest.fail(f"{path} would be read"))
    with pytest.raises(ModelRefused, match="incomplete"):
        off.load(copy)


def test_saving_over_a_link_leaves_what_it_points_to(case: Case, fitted: Detector, copy: Path) -> None:
    link = copy.parent / "link"
    link.symlink_to(copy, target_is_directory=True)
    before = (copy / HEADER).read_bytes()
    fitted.clone().fit(case.world.normals(4)).save(link)
    assert off.load(link).fitted_
    assert link.is_symlink()
    assert (copy / HEADER).read_bytes() != before, "the model is replaced where it lies"
    assert _rests(copy) == [_arrays(copy).name, HEADER]


# -------------------------------------------------------------------------------- what is in the way


def test_folder_of_something_else_is_not_overwritten(case: Case, fitted: Detector, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "one.png").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="not a model folder"):
        fitted.save(photos)
    file = tmp_path / "notes.txt"
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match="not a model folder"):
        fitted.save(file)
    assert _rests(photos) == ["one.png"]
    assert file.read_text(encoding="utf-8") == "mine"
    assert _rests(tmp_path) == ["notes.txt", "photos"]


def test_folder_with_a_model_file_of_another_tool_is_not_overwritten(
    case: Case, fitted: Detector, tmp_path: Path
) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / HEADER).write_text('{"layers": []}', encoding="utf-8")
    (tmp_path / "web" / "photo.png").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="not a model folder"):
        fitted.save(tmp_path / "web")
    assert _rests(tmp_path / "web") == [HEADER, "photo.png"]


def test_empty_folder_is_filled(case: Case, fitted: Detector, tmp_path: Path) -> None:
    (tmp_path / "made" / "before").mkdir(parents=True)
    fitted.save(tmp_path / "made" / "before")
    fitted.save(tmp_path / "made" / "deep" / "down")
    assert off.load(tmp_path / "made" / "before").fitted_
    assert off.load(tmp_path / "made" / "deep" / "down").fitted_


# -------------------------------------------------------------------------------- a save that does not end

ONE = DETECTORS[-1]

_KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from cases import DETECTORS
detector = DETECTORS[-1].make(seed=8).fit(DETECTORS[-1].world.normals(4))
calls, real = [], os.replace
def killed(*paths, **words):
    calls.append(paths)
    if len(calls) == int(sys.argv[3]):
        os._exit(9)
    return real(*paths, **words)
os.replace = killed
detector.save(sys.argv[2])
os._exit(len(calls))
"""


def _kill(folder: Path, at: int) -> int:
    here = str(Path(__file__).parent)
    return subprocess.run([sys.executable, "-c", _KILLED, here, str(folder), str(at)], check=False).returncode


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A model that a save is to replace."""
    ONE.make(seed=2).fit(ONE.world.normals(4)).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("at", [1, 2])
def test_killed_save_leaves_the_old_model_whole(old: Path, at: int) -> None:
    assert _kill(old, at) == 9
    assert off.load(old).get_params()["seed"] == 2
    ONE.make(seed=3).fit(ONE.world.normals(4)).save(old)
    assert off.load(old).get_params()["seed"] == 3
    assert _rests(old) == [_arrays(old).name, HEADER], "the next save clears what the killed one left"


@pytest.mark.parametrize("at", [1, 2])
def test_first_save_that_was_killed_can_be_repeated(tmp_path: Path, at: int) -> None:
    new = tmp_path / "model"
    assert _kill(new, at) == 9
    with pytest.raises(ModelRefused, match="not a model folder"):
        off.load(new)
    ONE.make(seed=3).fit(ONE.world.normals(4)).save(new)
    assert off.load(new).get_params()["seed"] == 3
    assert _rests(new) == [_arrays(new).name, HEADER]


def test_save_renames_as_often_as_the_kills_above_try(old: Path) -> None:
    assert _kill(old, 99) == 2
    assert off.load(old).get_params()["seed"] == 8


@pytest.mark.parametrize("at", [0, 1])
def test_failed_rename_leaves_the_old_model_and_no_rest(
    old: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = ONE.make(seed=8).fit(ONE.world.normals(4))
    real, calls = os.replace, []

    def full(*paths: Any) -> None:
        calls.append(paths)
        if len(calls) == at + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*paths)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            detector.save(old)
    assert off.load(old).get_params()["seed"] == 2
    assert _rests(old.parent) == ["model"]
    assert _rests(old) == [_arrays(old).name, HEADER]


@pytest.mark.parametrize("at", [0, 1])
def test_full_disk_leaves_the_old_model_and_no_rest(
    old: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = ONE.make(seed=8).fit(ONE.world.normals(4))
    before = (old / HEADER).read_bytes(), _arrays(old).read_bytes()
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == at + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    for target in (old, old.parent / "new"):
        calls.clear()
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space"):
                detector.save(target)
    assert ((old / HEADER).read_bytes(), _arrays(old).read_bytes()) == before
    assert _rests(old.parent) == ["model"]
    assert _rests(old) == [_arrays(old).name, HEADER]


# -------------------------------------------------------------------------------- another environment


def test_another_environment_warns_and_takes_the_decision(
    case: Case, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = _header(copy)
    if not header["environment"]:
        assert off.load(copy).decision_ is not None
        return
    for key, value in (("precision", "bf16"), ("runtime", "another")):
        _write(copy, {**header, "environment": {**header["environment"], key: value}}, honest=True)
        with pytest.warns(OtherEnvironment, match=f"{key} {value} → .*calibrate"):
            detector = off.load(copy)
        assert detector.decision_ is None
        detector.calibrate(case.world.normals(24, name="fresh"), decision=Conformal(0.1))
        assert set(detector.predict(case.world.normals(2)).tolist()) <= {0, 1}


def test_other_weights_are_refused(case: Case, copy: Path) -> None:
    header = _header(copy)
    if "weights" not in header["environment"]:
        assert header["environment"] == {}
        return
    _write(copy, {**header, "environment": {**header["environment"], "weights": "0" * 64}}, honest=True)
    with pytest.raises(ModelRefused, match="other weights"):
        off.load(copy)
