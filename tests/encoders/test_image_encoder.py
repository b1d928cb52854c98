"""`image_encoder`: what it gives, that results do not depend on the batch, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from offnominal.core.errors import ExtraMissing
from offnominal.encoders import PatchHead, available, class_names, classify, encoder_names, image_encoder
from offnominal.encoders import runtime as runtimes

RUNTIMES = [name for name in runtimes.RUNTIMES if find_spec(name)]
PRECISIONS = [
    (kind, precision)
    for kind in RUNTIMES
    for precision in runtimes.PRECISIONS
    if (kind, precision) != ("onnxruntime", "bf16")
]


def pixels(n: int, side: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize(("kind", "precision"), PRECISIONS)
def test_a_result_does_not_depend_on_the_images_beside_it(kind: str, precision: str) -> None:
    encoder = image_encoder(size=64, runtime=kind, precision=precision, head=PatchHead())
    images = pixels(19)
    (together,) = encoder.encode(images)
    (turned,) = encoder.encode(images[::-1])
    np.testing.assert_array_equal(together, turned[::-1])
    for index in (0, 7, 18):
        np.testing.assert_array_equal(encoder.encode(images[index : index + 1])[0][0], together[index])


@pytest.mark.parametrize("kind", RUNTIMES)
def test_runtimes_agree_in_fp32(kind: str) -> None:
    images = pixels(3)
    expected = image_encoder(size=64, runtime="openvino", precision="fp32").encode(images)
    found = image_encoder(size=64, runtime=kind, precision="fp32").encode(images)
    for one, other in zip(found, expected, strict=True):
        assert np.linalg.norm(one - other) <= 1e-4 * np.linalg.norm(other)


@pytest.mark.parametrize("kind", RUNTIMES)
def test_whole_float_pixels_are_byte_pixels(kind: str) -> None:
    encoder = image_encoder(size=64, runtime=kind, precision="fp32")
    images = pixels(2)
    for one, other in zip(encoder.encode(images), encoder.encode(images.astype(np.float32)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())


def test_what_an_encoder_says_is_what_it_gives() -> None:
    encoder = image_encoder(levels=(6, "14", "pooled"), size=(64, 96))
    outputs = encoder.encode(np.zeros((2, 64, 96, 3), np.uint8))
    assert encoder.levels == ("6", "14", "pooled")
    assert encoder.channels == (48, 120, 1280)
    assert encoder.grids == ((8, 12), (4, 6), ())
    assert [output.shape[1:] for output in outputs] == list(encoder.shapes)
    assert all(output.dtype == np.float32 for output in outputs)
    assert encoder.fingerprint == "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    assert encoder.precision in ("fp32", "bf16")


def test_no_images_give_empty_outputs() -> None:
    assert [part.shape[0] for part in image_encoder(size=64).encode(pixels(0))] == [0, 0, 0]


def test_one_configuration_is_one_encoder() -> None:
    assert image_encoder(size=64) is image_encoder("efficientnet_lite2", size=(64, 64), levels=(10, 14, 19))
    assert image_encoder(size=64) is not image_encoder(size=64, head=PatchHead())


def test_threads_share_an_encoder() -> None:
    encoder = image_encoder(size=64, precision="fp32")
    batches = [pixels(3, seed=seed) for seed in range(8)]
    expected = [encoder.encode(batch)[0] for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(
            pool.map(lambda batch: encoder.encode(batch)[0], batches), expected, strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_another_thread_budget_gives_the_same_features(monkeypatch: pytest.MonkeyPatch) -> None:
    (expected,) = image_encoder(size=64, precision="fp32", head=PatchHead()).encode(pixels(3))
    monkeypatch.setenv("OFFNOMINAL_THREADS", "1")
    (found,) = image_encoder(size=64, precision="fp32", head=PatchHead()).encode(pixels(3))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_random_weights_are_the_same_every_time() -> None:
    encoder = image_encoder("resnet18", size=64, weights="random")
    assert encoder.fingerprint == "random"
    assert encoder.channels == (128, 256)
    assert all(np.isfinite(part).all() and part.std() > 0 for part in encoder.encode(pixels(1)))


def test_graph_is_the_encoder() -> None:
    openvino = pytest.importorskip("openvino")
    encoder = image_encoder(size=64, precision="fp32", head=PatchHead())
    core = openvino.Core()
    model = core.compile_model(
        core.read_model(encoder.graph().SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    (expected,) = encoder.encode(pixels(2))
    np.testing.assert_allclose(model(pixels(2))[0], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((1, 32, 64, 3), np.uint8), "64"),
        (np.zeros((64, 64, 3), np.uint8), "pixels must be"),
        (np.zeros((1, 64, 64, 1), np.uint8), "pixels must be"),
        (np.zeros((1, 64, 64, 3)), "float64"),
        (np.full((1, 64, 64, 3), np.nan, np.float32), "finite"),
    ],
)
def test_wrong_pixels_are_refused(images: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        image_encoder(size=64).encode(images)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "efficientnet_lite9"},
        {"levels": ("99",)},
        {"levels": ()},
        {"levels": (7, 7)},
        {"size": 8},
        {"size": (64, 100_000)},
        {"runtime": "tensorrt"},
        {"precision": "int4"},
        {"runtime": "onnxruntime", "precision": "bf16"},
    ],
    ids=str,
)
def test_wrong_configurations_are_refused(wrong: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "installed", lambda kind: True)
    with pytest.raises(ValueError, match=r"."):
        image_encoder(**wrong)


def test_a_missing_runtime_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "installed", lambda kind: False)
    with pytest.raises(ExtraMissing, match=r"offnominal\[torch\]"):
        image_encoder(size=64, runtime="torch")


def test_bf16_is_taken_only_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Core:
        def get_property(self, *names: str) -> list[str]:
            return ["FP32", "BF16"]

    monkeypatch.setattr(runtimes, "_openvino_core", Core)
    for flags, expected in (("avx2 avx512f", False), ("avx512f avx512_bf16", True), ("amx_bf16", True)):
        monkeypatch.setattr(runtimes, "cpu_flags", lambda flags=flags: frozenset(flags.split()))
        assert runtimes.computes_bf16() is expected
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nflags\t\t: fpu amx_bf16\n")
    if sys.platform.startswith("linux"):
        monkeypatch.undo()
        assert runtimes.cpu_flags(info) == {"fpu", "amx_bf16"}


def test_automatic_precision_asks_the_network_and_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "installed", lambda kind: True)
    for capable, tolerant, expected in ((True, True, "bf16"), (True, False, "fp32"), (False, True, "fp32")):
        monkeypatch.setattr(runtimes, "computes_bf16", lambda capable=capable: capable)
        assert runtimes.choose("auto", "auto", tolerant=tolerant) == ("openvino", expected)
    assert runtimes.choose("openvino", "bf16", tolerant=False) == ("openvino", "bf16")
    assert runtimes.choose("torch", "auto", tolerant=True) == ("torch", "fp32")


def test_networks_said_to_bear_bf16_do() -> None:
    if not runtimes.computes_bf16():
        pytest.skip("this processor has no bf16 instructions")
    exact, low = (
        image_encoder("resnet18", size=128, weights="random", runtime="openvino", precision=precision)
        for precision in ("fp32", "auto")
    )
    assert low.precision == "bf16"
    for one, other in zip(low.encode(pixels(2, 128)), exact.encode(pixels(2, 128)), strict=True):
        assert 0 < np.linalg.norm(one - other) <= 2e-2 * np.linalg.norm(other)


def test_the_cache_of_runtimes_keeps_the_recent_ones() -> None:
    made: list[str] = []
    recent: runtimes.Recent[str] = runtimes.Recent(2)

    def get(name: str) -> str:
        return recent.get(name, lambda: made.append(name) or name)  # type: ignore[func-returns-value]

    for name in "abaca":
        assert get(name) == name
    assert made == ["a", "b", "c"]
    get("b")
    assert made == ["a", "b", "c", "b"]


def test_every_encoder_is_listed() -> None:
    rows = available()
    assert {row.name for row in rows} == set(encoder_names())
    assert all(row.present != bool(row.remedy) for row in rows)
    assert all(row.licence and "ImageNet" in row.note for row in rows if row.file)
    assert next(row for row in rows if row.name == "efficientnet_lite2").present


def test_class_names_are_the_thousand() -> None:
    names = class_names()
    assert len(names) == 1000
    assert (names[0], names[1], names[207], names[999]) == (
        "tench",
        "goldfish",
        "golden retriever",
        "toilet tissue",
    )


def test_classify_gives_falling_probabilities() -> None:
    (best,) = classify(pixels(1), top=1000)
    odds = [value for _, value in best]
    assert odds == sorted(odds, reverse=True)
    assert sum(odds) == pytest.approx(1)


def test_importing_the_room_loads_no_runtime() -> None:
    heavy = "{'torch', 'openvino', 'onnx', 'onnxruntime', 'scipy', 'PIL'}"
    code = f"import sys, offnominal.encoders; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
