"""An export scores as its detector does, says what it needs, and is refused where it was changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import offnominal as off
from offnominal.core.errors import ModelRefused, NotFittedError
from offnominal.decide import Conformal
from offnominal.image.detector import ImageBatch, ImageDetector
from offnominal.image.export import Exported, NotExportable, ParityFailed, export, parity, writing

SIZE = 64
SMALL: dict[str, dict[str, Any]] = {
    "ae": {"width": 8, "steps": 20, "batch": 8},
    "board_ae": {"register": False, "levels": ("3", "6"), "steps": 10},
    "deep_rpo": {"steps": 20, "hidden": (32,), "latent": 16, "projections": 200},
    "dfr": {"steps": 40, "batch": 256},
    "efficientad": {
        "levels": ("4", "10"),
        "precision": "fp32",
        "scale": 0.06,
        "outputs": 16,
        "distillation_steps": 8,
        "steps": 20,
        "learning_rate": 5e-3,
    },
    "fod": {"levels": ("6", "10"), "width": 32, "heads": 2, "depth": 2, "steps": 20},
    "gaussian": {"levels": ("4", "10")},
    "gnl": {"levels": ("3", "6", "10"), "width": 16, "steps": 10},
    "inp_former": {"levels": ("4", "6", "10"), "stride": 8, "width": 64, "depth": 2, "steps": 20, "batch": 4},
    "latent_clusters": {"grid": 8, "latent": 8, "side": 32, "steps": 10, "batch": 8, "synthetic": 8},
    "mambaad": {
        "levels": ("4", "10"),
        "width": 8,
        "depths": (0, 0, 1),
        "directions": 2,
        "state": 2,
        "steps": 10,
        "learning_rate": 1e-2,
    },
    "mean_shifted": {"levels": ("10",), "steps": 2, "batch": 4},
    "onenip": {
        "levels": ("4", "10"),
        "grid": 8,
        "width": 16,
        "heads": 2,
        "depth": 1,
        "synthetic": 8,
        "steps": 10,
        "batch": 4,
        "learning_rate": 5e-3,
    },
    "padim": {"dimensions": 20},
    "patchcore": {"bank_size": 120},
    "pni": {
        "levels": ("4", "6"),
        "bank_size": 120,
        "distribution": 32,
        "window": 3,
        "hidden": 32,
        "depth": 3,
        "steps": 20,
        "refine": True,
        "synthetic": 8,
        "refine_steps": 8,
    },
    "simplenet": {"levels": ("4", "6"), "steps": 40, "batch": 256, "hidden": 64},
    "unicon_ha": {"levels": ("3", "10"), "steps": 1, "batch": 2},
    "vae": {"width": 8, "steps": 20, "batch": 8},
    "vae_gan": {"width": 8, "steps": 10},
    "vt_adl": {"patch": 8, "width": 32, "depth": 1, "heads": 2, "components": 3, "channels": 8, "steps": 10},
}
FORMS = ["onnx", "openvino"]
DETECTORS = sorted(
    card.name for card in off.catalogue() if card.kind == "detector" and card.modality == "image"
)


def photographs(count: int, seed: int, *, deep: bool = False, marked: bool = False) -> list[np.ndarray]:
    """One scene from slightly other places, with noise; in half of the marked ones a bright square."""
    scene = np.random.default_rng(7).uniform(40, 200, (10, 12, 3)).repeat(8, axis=0).repeat(8, axis=1)
    random = np.random.default_rng(seed)
    images = []
    for number in range(count):
        view = np.roll(scene, random.integers(-3, 4, 2), (0, 1)) + random.normal(0, 4, scene.shape)
        if marked and number % 2:
            y, x = random.integers(0, 60, 2)
            view[y : y + 16, x : x + 16] = 250
        view = np.clip(view, 0, 255)
        images.append((view * 257).astype(np.uint16) if deep else view.astype(np.uint8))
    return images


@cache
def fitted(name: str, *, deep: bool = False, decided: bool = False, **parameters: Any) -> ImageDetector:
    """A small detector that has seen 24 images; with a decision at a false-alarm rate of 0.1 where asked.

    Made once for the same arguments: nothing here changes a detector.
    """
    detector = off.make(name, "image", **{"image_size": SIZE, **SMALL.get(name, {}), **parameters})
    normals = photographs(24, 1, deep=deep)
    if decided or not detector.card.streams:
        return detector.fit(normals, decision=Conformal(0.1))
    return detector.partial_fit(normals)


@dataclass
class Pair:
    detector: ImageDetector
    folder: Path
    header: dict[str, Any]
    exported: Exported


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pair]:
    """A fitted detector and its export, made once each. Not to be written to."""
    pairs: dict[Any, Pair] = {}

    def make(name: str, to: str, deep: bool = False) -> Pair:
        detector = fitted(name, deep=deep)
        if not hasattr(detector, "_graph"):
            with pytest.raises(NotExportable, match=name):
                export(detector, to, tmp_path_factory.mktemp("exports") / "none")
            pytest.skip(f"{name} has no scoring graph, and says so")
        if (name, to, deep) not in pairs:
            folder = export(detector, to, tmp_path_factory.mktemp("exports") / name)
            header = json.loads((folder / "export.json").read_text(encoding="utf-8"))
            pairs[name, to, deep] = Pair(detector, folder, header, Exported(folder))
        return pairs[name, to, deep]

    return make


def close(found: np.ndarray, wanted: np.ndarray, tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max() * 0.01)


@pytest.mark.parametrize("deep", [False, True], ids=["uint8", "float32"])
@pytest.mark.parametrize("to", FORMS)
@pytest.mark.parametrize("name", DETECTORS)
def test_scores_and_maps_are_the_detectors(pair, name, to, deep):
    made = pair(name, to, deep)
    assert made.header["input"]["dtype"] == "float32"
    items = photographs(6, 2, deep=deep, marked=True)
    close(made.exported.anomaly_score(items), made.detector.anomaly_score(items))
    if made.detector.card.localises:
        for found, wanted in zip(
            made.exported.anomaly_map(items), made.detector.anomaly_map(items), strict=True
        ):
            assert found.shape == wanted.shape == items[0].shape[:2]
            assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
    else:
        assert "map" not in made.header["outputs"]


@pytest.mark.parametrize("to", FORMS)
@pytest.mark.parametrize("name", DETECTORS)
def test_the_graph_takes_any_number_of_images(pair, name, to):
    from offnominal.image.export.running import open_session, runtime_for

    made = pair(name, to)
    file = made.folder / ("model.onnx" if to == "onnx" else "model.xml")
    session = open_session(file, runtime_for(file))
    views = made.exported._collate(
        [view for item in photographs(5, 3, marked=True) for view in [_views(made.exported, item)]]
    ).pixels
    together = session(views)
    alone = [session(views[index : index + 1]) for index in range(len(views))]
    for output, values in together.items():
        assert values.dtype == np.float32
        close(values, np.concatenate([found[output] for found in alone]), 1e-5)


def _views(detector: ImageDetector, image: np.ndarray) -> Any:
    from offnominal.data import images

    return detector._prepare(images([image]).read(0))


def test_openvino_reads_the_onnx_file_too(pair):
    made = pair("patchcore", "onnx")
    items = photographs(3, 4, marked=True)
    close(Exported(made.folder, "openvino").anomaly_score(items), made.exported.anomaly_score(items))


def test_without_onnxruntime_openvino_checks_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("offnominal.image.export.running.installed", lambda name: False)
    folder = export(fitted("embedding_knn"), "onnx", tmp_path / "out")
    assert json.loads((folder / "export.json").read_text())["parity"]["run_by"] == "openvino"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("patchcore", {"reweight": False}),
        ("patchcore", {"neighbours": 1}),
        ("patchcore", {"bank_size": 3, "neighbours": 9}),
        ("patchcore", {"smoothing": 0.0}),
        ("patchcore", {"tile": 48}),
        ("gaussian", {"drop_variance": 0.5}),
        ("embedding_knn", {"neighbours": 30}),
        ("pixel_statistics", {"largest_shift": 0.0, "blur": 0.0}),
        ("pixel_statistics", {"image_size": 63}),
    ],
)
def test_parameters_are_in_the_graph(tmp_path, name, parameters):
    detector = fitted(name, **parameters)
    exported = Exported(export(detector, "onnx", tmp_path / "out"))
    items = photographs(4, 5, marked=True)
    close(exported.anomaly_score(items), detector.anomaly_score(items))


def test_the_search_keeps_its_digits_far_from_the_origin():
    """Rows whose common offset is ten thousand times their differences."""
    import onnxruntime

    from offnominal.image.export.graph import Graph

    random = np.random.default_rng(0)
    offset = random.normal(0, 100, 24)
    bank = (offset + random.normal(0, 0.01, (300, 24))).astype(np.float32)
    pixels = (offset[0] + random.normal(0, 0.01, (1, 24, 24, 3))).astype(np.float32)
    rows = pixels[..., 0].reshape(24, 24) + (offset - offset[0]).astype(np.float32)
    graph = Graph(24)
    wanted_rows = graph.pixels.take(np.array(0), axis=3).reshape(-1, 24) + (offset - offset[0])
    distances, places = graph.nearest(wanted_rows, bank, 3)
    model = graph.finish({"distances": (distances, [3]), "places": (places.cast("float32"), [3])})
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found, where = session.run(None, {"pixels": pixels})
    apart = np.linalg.norm(rows[:, None].astype(np.float64) - bank.astype(np.float64)[None], axis=2)
    np.testing.assert_allclose(found, np.sort(apart, axis=1)[:, :3], rtol=1e-4)
    np.testing.assert_array_equal(where, np.argsort(apart, axis=1)[:, :3])


def test_the_bank_is_in_the_file_once(tmp_path):
    small, large = fitted("patchcore"), fitted("patchcore", bank_size=2000)
    sizes = [
        (export(detector, "onnx", tmp_path / name) / "model.onnx").stat().st_size
        for name, detector in (("small", small), ("large", large))
    ]
    more = large.bank_.nbytes - small.bank_.nbytes
    assert more > 2e5
    assert sizes[1] - sizes[0] < 1.3 * more


def test_openvinos_form_names_what_it_gives(pair):
    """As the how-to runs it, without offnominal."""
    import openvino

    made = pair("padim", "openvino")
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(made.folder / "model.xml", "CPU", settings)
    views = _views(made.detector, photographs(1, 14)[0]).pixels[0][None]
    found = model([views])
    close(found["score"], made.detector._infer(ImageBatch(views, []))[0])
    assert found["map"].shape == (1, SIZE, SIZE)


@pytest.mark.parametrize(("down", "right"), [(0, 0), (5, -3), (-6, 6), (1, 2)])
def test_images_are_aligned_as_the_detector_aligns_them(pair, down, right):
    made = pair("pixel_statistics", "onnx")
    views = np.stack([_views(made.detector, item).pixels[0] for item in photographs(3, 6)])
    moved = np.roll(views, (down, right), (1, 2))
    wanted, maps = made.detector._infer(ImageBatch(moved, []))
    found = made.exported._infer(ImageBatch(moved, []))
    close(found[0], wanted)
    assert np.abs(found[1] - maps).max() <= 1e-4 * maps.max()


def test_it_says_what_goes_in_and_how_well_it_agrees(pair):
    made = pair("patchcore", "onnx")
    header = made.header
    assert header["input"] == {"name": "pixels", "dtype": "float32", "shape": ["n", SIZE, SIZE, 3]}
    assert set(header["outputs"]) == {"score", "map"}
    assert header["parity"]["images"] >= 8
    assert max(header["parity"]["deviation_from_fp32"].values()) <= header["parity"]["limit"] == 1e-4
    assert set(header["parity"]["deviation_from_the_model_as_it_runs"]) == {"score", "map"}
    assert {"offnominal", "onnx", "numpy"} <= set(header["versions"])
    assert set(header["files"]) == {"model.onnx"}


def test_the_sample_given_is_what_is_compared(tmp_path):
    folder = export(fitted("embedding_knn"), "onnx", tmp_path / "out", sample=photographs(3, 8))
    told = json.loads((folder / "export.json").read_text(encoding="utf-8"))["parity"]
    assert (told["images"], told["of"]) == (3, "the sample given")


def test_verdicts_are_those_of_the_threshold_file(tmp_path):
    detector = fitted("patchcore", decided=True)
    folder = export(detector, "onnx", tmp_path / "out")
    items = photographs(8, 9, marked=True)
    exported = Exported(folder)
    np.testing.assert_array_equal(exported.predict(items), detector.predict(items))
    assert {found.basis for found in exported.detect(items)} == {"declared"}
    told = json.loads((folder / "threshold.json").read_text(encoding="utf-8"))
    assert told["threshold"] == detector.decision_.threshold
    assert told["decision"]["decision"] == "conformal"
    told["threshold"] = float(exported.anomaly_score(items).max())
    (folder / "threshold.json").write_text(json.dumps(told), encoding="utf-8")
    assert Exported(folder).predict(items).sum() == 0
    (folder / "threshold.json").write_text('{"threshold": "high"}', encoding="utf-8")
    with pytest.raises(ModelRefused, match="threshold"):
        Exported(folder)


def test_no_threshold_is_carried_over_from_another_precision(tmp_path):
    detector = fitted("patchcore", decided=True, precision="bf16", runtime="openvino")
    assert detector.decision_ is not None
    told = json.loads(
        (export(detector, "onnx", tmp_path / "a") / "threshold.json").read_text(encoding="utf-8")
    )
    assert told["threshold"] is None
    assert "precision" in told["note"]
    normals = photographs(24, 10)
    folder = export(detector, "onnx", tmp_path / "b", normals=normals)
    told = json.loads((folder / "threshold.json").read_text(encoding="utf-8"))
    assert told["decision"]["asked_false_alarm_rate"] == 0.1
    assert np.mean(Exported(folder).anomaly_score(normals) > told["threshold"]) <= 0.1


def test_fp16_weights_halve_the_file(tmp_path, pair):
    made = pair("patchcore", "openvino")
    folder = export(made.detector, "openvino", tmp_path / "half", precision="fp16")
    assert (folder / "model.bin").stat().st_size < 0.6 * (made.folder / "model.bin").stat().st_size
    items = photographs(4, 11, marked=True)
    close(Exported(folder).anomaly_score(items), made.detector.anomaly_score(items), 2e-2)
    assert Exported(folder).decision_ is None


def test_large_constants_lie_beside_the_graph(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "PROTOBUF_LIMIT", 0)
    detector = fitted("padim")
    folder = export(detector, "onnx", tmp_path / "out")
    assert (folder / "model.onnx.data").stat().st_size > 10 * (folder / "model.onnx").stat().st_size
    items = photographs(3, 12)
    close(Exported(folder).anomaly_score(items), detector.anomaly_score(items))
    assert {file.name for file in export(detector, "openvino", tmp_path / "ov").iterdir()} == {
        "model.xml",
        "model.bin",
        "export.json",
        "threshold.json",
    }


def test_a_saved_model_exports_as_it_is(tmp_path):
    detector = fitted("embedding_knn")
    detector.save(tmp_path / "model")
    exported = Exported(export(tmp_path / "model", "openvino", tmp_path / "out"))
    items = photographs(3, 13)
    close(exported.anomaly_score(items), detector.anomaly_score(items))


# ---------------------------------------------------------------- refusals


def test_what_does_not_agree_is_not_left_behind(tmp_path, monkeypatch):
    def wrong(session, pixels, run=parity.by_session):
        return {name: value * 1.01 for name, value in run(session, pixels).items()}

    monkeypatch.setattr("offnominal.image.export.exporting.by_session", wrong)
    detector = fitted("embedding_knn")
    with pytest.raises(ParityFailed, match=r"embedding_knn.*score 0\.01"):
        export(detector, "onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", ["score", "map"])
def test_nan_does_not_agree(tmp_path, monkeypatch, output):
    def wrong(session, pixels, run=parity.by_session):
        found = run(session, pixels)
        return {**found, output: np.full_like(found[output], np.nan)}

    monkeypatch.setattr("offnominal.image.export.exporting.by_session", wrong)
    with pytest.raises(ParityFailed, match=f"{output} nan"):
        export(fitted("patchcore"), "onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_method_without_a_graph_says_so(tmp_path):
    class Odd(ImageDetector):
        card = off.make("patchcore").card

        def _infer(self, batch):
            raise AssertionError

    with pytest.raises(NotExportable, match="no scoring graph"):
        export(Odd(), "onnx", tmp_path / "out")


@pytest.mark.parametrize(
    ("to", "precision", "said"), [("torchscript", "fp32", "onnx or openvino"), ("onnx", "fp16", "openvino")]
)
def test_forms_that_there_are_not(tmp_path, to, precision, said):
    with pytest.raises(ValueError, match=said):
        export(off.make("patchcore"), to, tmp_path / "out", precision=precision)


def test_an_unfitted_detector_is_refused(tmp_path):
    with pytest.raises(NotFittedError):
        export(off.make("patchcore"), "onnx", tmp_path / "out")


def test_nothing_of_the_users_is_overwritten_and_an_export_is_replaced(tmp_path):
    detector = fitted("embedding_knn")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError):
        export(detector, "onnx", tmp_path / "mine")
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    export(detector, "onnx", tmp_path / "out")
    export(detector, "openvino", tmp_path / "out")
    assert Exported(tmp_path / "out").header["to"] == "openvino"
    assert {file.name for file in tmp_path.iterdir()} == {"mine", "out"}


@pytest.fixture
def own(pair, tmp_path) -> Path:
    """An export that may be written to."""
    return Path(shutil.copytree(pair("embedding_knn", "onnx").folder, tmp_path / "own"))


def test_a_changed_graph_is_refused(own):
    with (own / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelRefused, match=r"model\.onnx is not the file that was written"):
        Exported(own)


def test_a_missing_graph_is_refused(own):
    (own / "model.onnx").unlink()
    with pytest.raises(ModelRefused, match=r"model\.onnx is missing"):
        Exported(own)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [("prepare", {}, "changed after it was written"), ("format", 99, "update offnominal")],
)
def test_a_changed_header_is_refused(own, key, value, said):
    header = json.loads((own / "export.json").read_text(encoding="utf-8"))
    (own / "export.json").write_text(json.dumps({**header, key: value}), encoding="utf-8")
    with pytest.raises(ModelRefused, match=said):
        Exported(own)


def test_a_folder_that_is_no_export_is_refused(tmp_path):
    with pytest.raises(ModelRefused, match="is not an export"):
        Exported(tmp_path)


def test_an_export_learns_nothing(own):
    with pytest.raises(NotExportable, match="learns nothing"):
        Exported(own).fit(photographs(4, 0))
    with pytest.raises(TypeError, match="does not learn in pieces"):
        Exported(own).partial_fit(photographs(4, 0))


def test_other_channels_are_refused_as_by_the_detector(own):
    from offnominal.core.errors import BadItems

    with pytest.raises(BadItems, match="channel"):
        Exported(own).anomaly_score([np.zeros((20, 20, 5), np.uint8)])


def test_onnxruntime_does_not_read_openvinos_form(pair):
    with pytest.raises(ValueError, match="onnxruntime does not read"):
        Exported(pair("patchcore", "openvino").folder, "onnxruntime")
