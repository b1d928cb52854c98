"""The interpreters of the layer tables agree with each other and with references written from the papers."""

from __future__ import annotations

import numpy as np
import pytest

from offnominal.core.errors import CheckpointRefused
from offnominal.encoders.efficientnet_lite import VARIANTS, efficientnet_lite
from offnominal.encoders.graph import to_onnx
from offnominal.encoders.heads import PatchHead, PoolHead
from offnominal.encoders.image import encoder_names, network
from offnominal.encoders.network import check_state, random_state, same_padding, shapes

ort = pytest.importorskip("onnxruntime", reason="onnxruntime runs the graphs")
torch = pytest.importorskip("torch", reason="torch is the second interpreter")
functional = torch.nn.functional

SIZE = (67, 96)  # odd and oblong: "same" padding is lopsided on one axis and not on the other


def pixels(n: int = 2, size: tuple[int, int] = SIZE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *size, 3), dtype=np.uint8)


def run_onnx(model: object, images: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])  # type: ignore[attr-defined]
    return session.run(None, {"pixels": images})


def run_torch(nodes: tuple, outputs: tuple[str, ...], state: dict, images: np.ndarray) -> list[np.ndarray]:
    from offnominal.encoders.torch_network import to_torch

    with torch.inference_mode():
        values = to_torch(nodes, outputs, state)(torch.from_numpy(images))
    return [value.movedim(1, -1).numpy() for value in values]


def close(one: np.ndarray, other: np.ndarray, tolerance: float = 1e-4) -> None:
    assert one.shape == other.shape
    assert np.isfinite(other).all()
    assert np.abs(one - other).max() <= tolerance * np.abs(other).max()


LARGE = {"resnet34", "wide_resnet50_2", "efficientnet_lite3", "efficientnet_lite4"}
NAMES = [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in encoder_names()]


@pytest.mark.parametrize("name", NAMES)
def test_onnx_and_torch_are_the_same_network(name: str) -> None:
    """Both are held to float64: two float32 results may differ by the sum of their own rounding."""
    from offnominal.encoders.torch_network import to_torch

    table = network(name)
    state = random_state(table, np.random.default_rng(1))
    taps = (*table.levels, "pooled", "logits")
    outputs = tuple(table.taps[tap] for tap in taps)
    images = pixels()
    exact = to_torch(table.nodes, outputs, state).double()
    with torch.inference_mode():
        expected = [value.movedim(1, -1).numpy() for value in exact(torch.from_numpy(images))]
    graphs = run_onnx(to_onnx(table.nodes, outputs, state, SIZE), images)
    modules = run_torch(table.nodes, outputs, state, images)
    known = shapes(table.nodes, SIZE)
    for value, graph, module, wanted in zip(outputs, graphs, modules, expected, strict=True):
        close(graph, wanted)
        close(module, wanted)
        assert np.linalg.norm(graph - module) <= 1e-4 * np.linalg.norm(module)
        assert graph.shape == (2, *known[value][1:], known[value][0])


def reference_resnet(state: dict, images: np.ndarray, blocks: tuple[int, ...], wide: bool) -> list:
    """Residual network in plain functional torch, batch normalisation unfolded."""
    tensors = {name: torch.from_numpy(value) for name, value in state.items()}

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        parts = [tensors[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *parts, training=False)

    def conv(x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        weight = tensors[f"{name}.weight"]
        return functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((torch.from_numpy(images) / 255 - mean) / std).permute(0, 3, 1, 2)
    x = functional.max_pool2d(norm(conv(x, "conv1", 2), "bn1").relu(), 3, 2, 1)
    stages = []
    for stage, count in enumerate(blocks, start=1):
        for index in range(count):
            at, stride = f"layer{stage}.{index}", 2 if stage > 1 and index == 0 else 1
            if wide:
                y = norm(conv(x, f"{at}.conv1"), f"{at}.bn1").relu()
                y = norm(conv(y, f"{at}.conv2", stride), f"{at}.bn2").relu()
                y = norm(conv(y, f"{at}.conv3"), f"{at}.bn3")
            else:
                y = norm(conv(x, f"{at}.conv1", stride), f"{at}.bn1").relu()
                y = norm(conv(y, f"{at}.conv2"), f"{at}.bn2")
            if f"{at}.downsample.0.weight" in tensors:
                x = norm(conv(x, f"{at}.downsample.0", stride), f"{at}.downsample.1")
            x = (x + y).relu()
        stages.append(x)
    logits = functional.linear(x.mean((2, 3)), tensors["fc.weight"], tensors["fc.bias"])
    return [*stages, logits]


@pytest.mark.parametrize(
    ("name", "blocks", "wide"),
    [
        ("resnet18", (2, 2, 2, 2), False),
        pytest.param("wide_resnet50_2", (3, 4, 6, 3), True, marks=pytest.mark.slow),
    ],
)
def test_resnet_is_the_papers(name: str, blocks: tuple[int, ...], wide: bool) -> None:
    table = network(name)
    state = random_state(table, np.random.default_rng(2))
    if wide:
        assert state["layer1.0.conv1.weight"].shape == (128, 64, 1, 1)
        assert state["layer4.2.conv3.weight"].shape == (2048, 1024, 1, 1)
    outputs = tuple(table.taps[tap] for tap in ("layer1", "layer2", "layer3", "layer4", "logits"))
    images = pixels()
    expected = reference_resnet(state, images, blocks, wide)
    for one, other in zip(
        run_onnx(to_onnx(table.nodes, outputs, state, SIZE), images), expected, strict=True
    ):
        close(one, other.movedim(1, -1).numpy())


@pytest.mark.parametrize(
    ("side", "kernel", "stride"), [(256, 3, 2), (65, 3, 2), (33, 5, 2), (17, 5, 1), (8, 1, 1)]
)
def test_same_padding_is_tensorflows(side: int, kernel: int, stride: int) -> None:
    before, after = same_padding(side, kernel, stride)
    assert (side + before + after - kernel) // stride + 1 == -(-side // stride)
    assert after - before in (0, 1)


def test_blocks_of_lite2_are_the_published_ones() -> None:
    table = efficientnet_lite("efficientnet_lite2")
    known = shapes(table.nodes, (256, 256))
    found = [known[table.taps[str(block)]] for block in range(21)]
    published = [(16, 128)] + [(24, 64)] * 3 + [(48, 32)] * 3 + [(88, 16)] * 4 + [(120, 16)] * 4
    published += [(208, 8)] * 5 + [(352, 8)]
    assert found == [(channels, side, side) for channels, side in published]


@pytest.mark.parametrize(
    ("name", "millions"),  # the sizes published with the TPU models
    zip(sorted(VARIANTS), (4.7, 5.4, 6.1, 8.2, 13.0), strict=True),
)
def test_lite_has_the_published_number_of_parameters(name: str, millions: float) -> None:
    held = sum(
        int(np.prod(shape))
        for key, shape in network(name).tensors().items()
        if not key.split(".")[-1].startswith("running")
    )
    assert held / 1e6 == pytest.approx(millions, abs=0.06)


def test_a_state_has_to_fit_exactly() -> None:
    table = network("resnet18")
    state = random_state(table, np.random.default_rng(0))
    counted = {**state, "bn1.num_batches_tracked": np.array(3)}
    assert check_state(table, counted, "a.pth").keys() == state.keys()
    with pytest.raises(CheckpointRefused, match=r"a\.pth.*missing.*fc\.bias"):
        check_state(table, {name: value for name, value in state.items() if name != "fc.bias"}, "a.pth")
    with pytest.raises(CheckpointRefused, match=r"not of this network.*extra"):
        check_state(table, {**state, "extra": np.zeros(3)}, "a.pth")
    with pytest.raises(CheckpointRefused, match="shape"):
        check_state(table, {**state, "fc.bias": np.zeros(3)}, "a.pth")
    with pytest.raises(CheckpointRefused, match="finite"):
        check_state(table, {**state, "fc.bias": np.full(1000, np.nan)}, "a.pth")


# ---- heads


def extended(head: object, levels: tuple[str, ...], size: tuple[int, int] = (64, 96)) -> tuple:
    table = network("resnet18")
    state = random_state(table, np.random.default_rng(3))
    added = head.extend(levels, shapes(table.nodes, size))  # type: ignore[attr-defined]
    return table.nodes + added.nodes, added.outputs, {**state, **added.tensors}


def reference_patches(maps: list[np.ndarray], neighbourhood: int, grid: tuple[int, int]) -> np.ndarray:
    """Neighbourhood mean by loops with zeros outside, bilinear half-pixel resize by its definition."""
    parts = []
    for values in maps:
        _, height, width, _ = values.shape
        reach = neighbourhood // 2
        mean = np.empty_like(values)
        for y in range(height):
            for x in range(width):
                window = values[:, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
                mean[:, y, x] = window.sum((1, 2)) / neighbourhood**2

        def axis(length: int, wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            at = np.clip((np.arange(wanted) + 0.5) * length / wanted - 0.5, 0, length - 1)
            low = np.floor(at).astype(int)
            return low, np.minimum(low + 1, length - 1), at - low

        low, high, part = axis(height, grid[0])
        rows = mean[:, low] * (1 - part)[None, :, None, None] + mean[:, high] * part[None, :, None, None]
        low, high, part = axis(width, grid[1])
        parts.append(rows[:, :, low] * (1 - part)[:, None] + rows[:, :, high] * part[:, None])
    return np.concatenate(parts, axis=-1)


@pytest.mark.parametrize("grid", ["finest", (5, 9), (8, 24), (16, 24)])
@pytest.mark.parametrize("neighbourhood", [1, 3, 5])
def test_patch_head_is_its_definition(grid: str | tuple[int, int], neighbourhood: int) -> None:
    levels, images = ("layer2.1", "layer3.1"), pixels(size=(64, 96))
    nodes, outputs, state = extended(PatchHead(neighbourhood, grid), levels)
    maps = run_onnx(to_onnx(nodes, levels, state, (64, 96)), images)
    target = maps[0].shape[1:3] if isinstance(grid, str) else grid
    expected = reference_patches(maps, neighbourhood, target)
    (found,) = run_onnx(to_onnx(nodes, outputs, state, (64, 96)), images)
    close(found, expected)
    close(run_torch(nodes, outputs, state, images)[0], expected)


def test_patch_head_constants_and_projection() -> None:
    levels, images = ("layer2.1", "layer3.1"), pixels(size=(64, 96))
    drawn = np.random.default_rng(4)
    mean, std = drawn.normal(size=384), drawn.uniform(0.5, 2, 384)
    nodes, outputs, state = extended(PatchHead(), levels)
    (plain,) = run_onnx(to_onnx(nodes, outputs, state, (64, 96)), images)
    head = PatchHead(weights=(2.0, 0.5), mean=tuple(mean), std=tuple(std), projection=64, seed=5)
    nodes, outputs, state = extended(head, levels)
    expected = (plain - mean) / std * np.repeat([2.0, 0.5], [128, 256]) @ state["patch:projection"].T
    (found,) = run_onnx(to_onnx(nodes, outputs, state, (64, 96)), images)
    assert found.shape == (2, 8, 12, 64)
    close(found, expected)
    close(run_torch(nodes, outputs, state, images)[0], expected)
    kept = np.linalg.norm(state["patch:projection"] @ drawn.normal(size=(384, 500)), axis=0)
    assert np.median(kept) / np.sqrt(384) == pytest.approx(1, abs=0.05)


def test_pool_head_is_the_mean_of_each_level() -> None:
    levels, images = ("layer2.1", "layer3.1"), pixels(size=(64, 96))
    nodes, outputs, state = extended(PoolHead(), levels)
    maps = run_onnx(to_onnx(nodes, levels, state, (64, 96)), images)
    expected = np.concatenate([values.mean((1, 2)) for values in maps], axis=1)
    close(run_onnx(to_onnx(nodes, outputs, state, (64, 96)), images)[0], expected)
    close(run_torch(nodes, outputs, state, images)[0], expected)
    nodes, outputs, state = extended(PoolHead(join=False), levels)
    assert [part.shape for part in run_onnx(to_onnx(nodes, outputs, state, (64, 96)), images)] == [
        (2, 128),
        (2, 256),
    ]


@pytest.mark.parametrize(
    "bad",
    [{"neighbourhood": 2}, {"neighbourhood": 0}, {"grid": "coarsest"}, {"std": (1.0, 0.0)}],
)
def test_patch_head_refuses(bad: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        PatchHead(**bad)


def test_patch_head_refuses_what_does_not_fit_the_levels() -> None:
    with pytest.raises(ValueError, match="3 weights for 2"):
        extended(PatchHead(weights=(1.0, 1.0, 1.0)), ("layer2.1", "layer3.1"))
    with pytest.raises(ValueError, match="384 channels"):
        extended(PatchHead(mean=(0.0,)), ("layer2.1", "layer3.1"))
    with pytest.raises(ValueError, match="pooled"):
        extended(PatchHead(), ("layer2.1", "pooled"))


def test_the_torch_module_trains() -> None:
    from offnominal.encoders.torch_network import to_torch

    table = network("resnet18")
    state = random_state(table, np.random.default_rng(0))
    before = state["conv1.weight"].copy()
    module = to_torch(table.nodes, ("layer1.1",), state).train()
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    module(torch.from_numpy(pixels()))[0].square().mean().backward()
    optimiser.step()
    assert not np.array_equal(module.layers["conv1"][0].weight.detach().numpy(), before)
    np.testing.assert_array_equal(state["conv1.weight"], before)
