"""Methods that train a network on frozen features: what each adds is there, and finds what it is made for."""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import offnominal as off
from offnominal.core.errors import ExtraMissing
from offnominal.core.seeds import generator
from offnominal.data import images
from offnominal.decide import Conformal
from offnominal.image.features import Features
from offnominal.metrics import auroc
from offnominal.synth import generate

SIZE = 64
SMALL: dict[str, dict[str, Any]] = {
    "dfr": {"steps": 60, "batch": 256},
    "fod": {"levels": ("6", "10"), "width": 32, "heads": 2, "depth": 2, "steps": 40},
    "inp_former": {"levels": ("4", "6", "10"), "stride": 8, "width": 64, "depth": 2, "steps": 40, "batch": 4},
    "simplenet": {"levels": ("4", "6"), "steps": 60, "batch": 256, "hidden": 64, "rate": 2e-3},
}


def boards(count: int, first: int = 0, *, turned: bool = False) -> list[np.ndarray]:
    """A fixed pattern with noise; the other product has it turned by a quarter and darker."""
    found = []
    for number in range(first, first + count):
        random = generator(3, "trained", str(number))
        y, x = np.mgrid[:SIZE, :SIZE] / SIZE
        base = 110 + 30 * np.sin(9 * x + 2 * np.sin(5 * y)) + 25 * ((x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.06)
        picture = base[..., None] * [0.9, 1.0, 1.1] + random.normal(0, 4, (SIZE, SIZE, 3))
        picture = picture.transpose(1, 0, 2) * 0.6 if turned else picture
        found.append(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    return found


def small(name: str, **parameters: Any) -> Any:
    return off.make(name, "image", **{"image_size": SIZE, **SMALL[name], **parameters})


# -------------------------------------------------------------------------------- features


def features(budget: float, positions: int | None = None, **parameters: Any) -> tuple[Features, Any]:
    detector = small("simplenet", **parameters)
    source = images(boards(6))
    detector._survey(source, range(6))
    return Features(detector, source, budget=budget, positions=positions), detector


@pytest.mark.parametrize(
    ("budget", "held", "apart"), [(64, "float32", 0), (0.1, "float16", 2e-3), (0, "nothing", 0)]
)
def test_features_are_held_as_the_budget_allows(budget: float, held: str, apart: float) -> None:
    found, detector = features(budget)
    batch = detector._collate([detector._prepare(images(boards(6)).read(n)) for n in range(6)])
    (whole,) = detector.features.encode(batch.pixels)
    assert (found.held, found.count, found.shapes) == (held, 6, [whole.shape[1:]])
    (taken,) = found.take([4, 1, 1])
    assert taken.dtype == np.float32
    np.testing.assert_allclose(taken, whole[[4, 1, 1]], rtol=apart, atol=apart)
    rows = whole.reshape(-1, whole.shape[-1]).astype(np.float64)
    np.testing.assert_allclose(found.means[0], rows.mean(axis=0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.deviations[0], rows.std(axis=0), rtol=1e-5, atol=1e-6)
    drawn = found.rows(40, np.random.default_rng(0))
    nearest = np.abs(drawn[:, None] - rows[None]).max(axis=2).min(axis=1)
    assert drawn.shape == (40, rows.shape[1])
    assert nearest.max() <= apart * np.abs(rows).max()
    np.testing.assert_array_equal(found.pixels([5, 0]), batch.pixels[[5, 0]])


def test_positions_drawn_are_the_same_each_time() -> None:
    held, _ = features(64, positions=9)
    again, _ = features(0, positions=9)
    assert held.shapes == [(9, held.shapes[0][-1])]
    np.testing.assert_array_equal(held.take([2, 3])[0], again.take([2, 3])[0])


def test_other_images_have_another_digest() -> None:
    one, detector = features(64)
    two = Features(detector, images([*boards(5), boards(1, 9)[0]]), budget=64)
    assert one.digest != two.digest
    assert one.digest == features(0)[0].digest


def test_every_tile_is_a_view() -> None:
    detector = small("simplenet", tile=48)
    source = images(boards(3))
    detector._survey(source, range(3))
    found = Features(detector, source, budget=64)
    assert found.count == 12
    np.testing.assert_array_equal(found.pixels([5])[0], detector._prepare(source.read(1)).pixels[1])


# -------------------------------------------------------------------------------- the base


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offnominal.image.trained.find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match=r"training dfr.*offnominal\[torch\]"):
        small("dfr").fit(boards(4))


def test_a_loaded_model_scores_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = small("dfr", steps=5).fit(boards(6))
    items = boards(2, 50)
    expected = detector.anomaly_score(items)
    detector.save(tmp_path / "model")
    real = builtins.__import__

    def without(name: str, *args: Any, **words: Any) -> Any:
        if name.partition(".")[0] == "torch":
            raise ImportError(name)
        return real(name, *args, **words)

    monkeypatch.setattr(builtins, "__import__", without)
    np.testing.assert_allclose(off.load(tmp_path / "model").anomaly_score(items), expected, rtol=1e-6)


def test_unknown_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="budget must be cpu or paper"):
        small("dfr", budget="gpu").fit(boards(4))


def test_budget_fills_what_is_not_given() -> None:
    detector = off.make("dfr", "image", budget="paper", steps=7)
    assert (detector._setting("steps"), detector._setting("rate")) == (7, 1e-4)
    assert detector.get_params()["rate"] is None


def test_a_fifth_is_held_out_for_the_decision() -> None:
    products = ["plain"] * 100 + ["turned"] * 100
    source = images([*boards(100), *boards(100, turned=True)], products=products)
    detector = small("simplenet", steps=5).fit(source, decision=Conformal(0.1))
    report = detector.decision_.report()
    assert report["n"] == 40
    assert {name: entry["n"] for name, entry in report["products"].items()} == {"plain": 20, "turned": 20}


def test_killed_training_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from offnominal.nets import training

    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    straight = small("inp_former", steps=9).fit(boards(6))
    real, calls = training._Loop._step, []

    def killed(self: Any, name: str, batch: Any) -> Any:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(self, name, batch)

    with monkeypatch.context() as patched:
        patched.setattr(training._Loop, "_step", killed)
        with pytest.raises(KeyboardInterrupt):
            small("inp_former", steps=9).fit(boards(6), checkpoint=tmp_path)
    assert os.listdir(tmp_path)
    again = small("inp_former", steps=9).fit(boards(6), checkpoint=tmp_path)
    np.testing.assert_array_equal(again.network_, straight.network_)
    assert not os.listdir(tmp_path), "emptied when done"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "fod" else name for name in SMALL]
)
def test_one_model_of_two_products(name: str) -> None:
    """An item of one product with a piece of the other in it is off, though both are normal."""
    normal = [*boards(12), *boards(12, turned=True)]
    products = ["plain"] * 12 + ["turned"] * 12
    steps = {"steps": 200} if name == "fod" else {}  # the difference of two attentions starts from nothing
    detector = small(name, **steps).fit(images(normal, products=products))
    fresh = [*boards(8, 50), *boards(8, 50, turned=True)]
    damaged = generate(fresh, 16, kinds=["missing piece", "stain"], seed=1).items
    assert auroc([0] * 16 + [1] * 16, detector.anomaly_score([*fresh, *damaged])) > 0.85


# -------------------------------------------------------------------------------- what each is made for


def test_dfr_finds_the_small_defect_where_it_is() -> None:
    """Fine levels on a fine grid: a spot of a few pixels, which coarse features drown."""
    detector = small("dfr", steps=200).fit(boards(16))
    fresh = boards(10, 60)
    spotted, places = [], []
    for number, item in enumerate(fresh):
        y, x = generator(5, str(number)).integers(8, SIZE - 12, 2)
        spotted.append(item.copy())
        spotted[-1][y : y + 4, x : x + 4] = 30
        places.append((y + 2, x + 2))
    assert auroc([0] * 10 + [1] * 10, detector.anomaly_score([*fresh, *spotted])) > 0.95
    peaks = [np.unravel_index(place.argmax(), place.shape) for place in detector.anomaly_map(spotted)]
    assert sum(np.hypot(*np.subtract(a, b)) < 8 for a, b in zip(peaks, places, strict=True)) >= 8


def test_dfr_code_follows_the_variance() -> None:
    narrow, wide = (small("dfr", steps=2, variance=v).fit(boards(4)).code_ for v in (0.5, 0.95))
    assert narrow < wide
    assert small("dfr", steps=2, code=5).fit(boards(4)).code_ == 5


@pytest.mark.parametrize("loss", ["truncated", "cross-entropy"])
def test_simplenet_tells_features_from_noisy_ones(loss: str) -> None:
    """Noise of the size it was trained on, added to an image's features, raises the score at each place."""
    detector = small("simplenet", loss=loss, steps=200, adaptor=False, standardise=False, noise=2.0)
    detector.fit(boards(16))
    source = images(boards(6, 70))
    batch = detector._collate([detector._prepare(source.read(n)) for n in range(6)])
    (rows,) = detector._inputs(batch)
    noisy = rows + np.random.default_rng(0).normal(0, 2.0, rows.shape).astype(np.float32)
    _, clean = detector._network(rows)
    _, off_ones = detector._network(noisy)
    assert auroc([0] * clean.size + [1] * clean.size, np.r_[clean.ravel(), off_ones.ravel()]) > 0.95


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"scoring": "prototypes"},
        {"attention": "softmax", "residual": True},
        {"coherence": 0.0, "mining": 0.0},
    ],
    ids=["own", "zero-shot mode", "copying decoder", "plain loss"],
)
def test_inp_former_finds_the_missing_piece(parameters: dict[str, Any]) -> None:
    detector = small("inp_former", steps=80, **parameters).fit(boards(16))
    fresh = boards(10, 80)
    damaged = generate(fresh, 10, kinds=["missing piece"], seed=2).items
    assert auroc([0] * 10 + [1] * 10, detector.anomaly_score([*fresh, *damaged])) > 0.85


def test_inp_former_mines_hard_places_in_the_gradient_only() -> None:
    import torch

    from offnominal.image.networks.inp_former import distances, mined

    random = np.random.default_rng(0)
    target, start = (torch.tensor(random.normal(size=(2, 5, 8))) for _ in range(2))
    grads, values = [], []
    for power in (0.0, 3.0):
        found = start.clone().requires_grad_()
        loss = mined(target, found, power)
        loss.backward()
        values.append(loss.item())
        grads.append(found.grad)
    apart = distances(target, start)
    torch.testing.assert_close(grads[1], grads[0] * ((apart / apart.mean()) ** 3)[..., None])
    assert values[0] == pytest.approx(values[1])


@pytest.mark.parametrize("branches", ["both", "intra", "inter"])
def test_fod_finds_a_part_in_the_wrong_place(branches: str) -> None:
    """A piece of the board itself, put elsewhere: each patch is normal, where it lies is not."""
    detector = small("fod", branches=branches, steps=80).fit(boards(16))
    fresh = boards(10, 95)
    moved = [item.copy() for item in fresh]
    for item in moved:
        item[38:60, 36:58] = item[14:36, 20:42]
    assert auroc([0] * 10 + [1] * 10, detector.anomaly_score([*fresh, *moved])) > 0.9


def test_fod_has_a_reference_a_product() -> None:
    source = images([*boards(5), *boards(5, turned=True)], products=["a"] * 5 + ["b"] * 5)
    detector = small("fod", steps=2)
    detector._survey(source, range(10))
    found = Features(detector, source, budget=64)
    (first, second) = detector._references(found)
    assert first.shape == (2, *found.shapes[0])
    np.testing.assert_allclose(first[1], found.take(range(5, 10))[0].mean(axis=0), rtol=1e-4, atol=1e-4)
    assert second.shape == (2, *found.shapes[1])
