from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("openvino")

from offnominal.core.errors import ModelRefused, NotSavable  # noqa: E402
from offnominal.core.store import read_arrays, write_arrays  # noqa: E402
from offnominal.nets.arrays import load_arrays, to_arrays  # noqa: E402
from offnominal.nets.attention import LinearAttention, RelativeBias, ReLUAttention, SoftmaxAttention  # noqa: E402
from offnominal.nets.compiled import Compiled  # noqa: E402
from offnominal.nets.convolution import ConvDecoder, ConvEncoder  # noqa: E402
from offnominal.nets.density import MixtureDensity  # noqa: E402
from offnominal.nets.export import compile_module, to_graph  # noqa: E402
from offnominal.nets.flow import glow  # noqa: E402
from offnominal.nets.scan_order import eight_directions  # noqa: E402
from offnominal.nets.state_space import SelectiveScan  # noqa: E402
from offnominal.nets.transformer import Block, Transformer  # noqa: E402


def conv_net(taken: int, given: int) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(taken, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, given, 1)
    )


class Call(torch.nn.Module):
    """A module by another of its methods."""

    def __init__(self, module: torch.nn.Module, name: str) -> None:
        super().__init__()
        self.module = module
        self.name = name

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return getattr(self.module, self.name)(*inputs)


class Scanned(torch.nn.Module):
    """Tokens of a grid in eight directions and back."""

    def __init__(self) -> None:
        super().__init__()
        self.scan = SelectiveScan(8, state=4, directions=8)
        self.order = torch.from_numpy(eight_directions("hilbert", 8, 8))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        found = self.scan(tokens[:, self.order])
        back = self.order.argsort(-1)[None, :, :, None].expand(len(tokens), -1, -1, 8)
        return found.gather(2, back).sum(1)


def conv_auto_encoder() -> torch.nn.Module:
    shape = {"widths": (8, 16), "size": (16, 16), "latent": 5}
    return torch.nn.Sequential(ConvEncoder(3, **shape), ConvDecoder(3, **shape))


CASES = {
    "convolutions": (conv_auto_encoder, [(1, 3, 16, 16)]),
    "transformer": (lambda: Transformer(2, 16, lambda: Block(16, SoftmaxAttention(16, 4))), [(1, 9, 16)]),
    "places": (
        lambda: Block(16, SoftmaxAttention(16, 4, relative=RelativeBias(4, 9))),
        [(2, 9, 16)],
    ),
    "prototypes": (
        lambda: Block(16, ReLUAttention(16, 4), residual=False, cross=True),
        [(1, 9, 16), (1, 4, 16)],
    ),
    "linear": (lambda: LinearAttention(16, 4), [(1, 9, 16)]),
    "correlations": (lambda: Call(SoftmaxAttention(16, 4), "correlate"), [(1, 9, 16), (1, 5, 16)]),
    "state space": (Scanned, [(1, 64, 8)]),
    "mixture": (lambda: Call(MixtureDensity(6, 4, 3), "log_likelihood"), [(8, 6), (8, 4)]),
    "flow": (lambda: Call(glow(4, 2, conv_net), "log_likelihood"), [(1, 4, 6, 6)]),
}


@pytest.mark.parametrize("name", CASES)
def test_every_part_computes_the_same_without_torch(name: str) -> None:
    make, shapes = CASES[name]
    torch.manual_seed(0)
    module = make().train()
    run = compile_module(module, *(torch.randn(shape) for shape in shapes))
    assert module.training
    module.eval()
    count = 5
    inputs = [torch.randn(count, *shape[1:]) for shape in shapes]
    with torch.no_grad():
        expected = module(*inputs)
    expected = list(expected) if isinstance(expected, tuple) else [expected]
    found = run(*(value.numpy() for value in inputs))
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-4, atol=1e-4 * float(b.abs().max()))
    alone = [run(*(value[i : i + 1].numpy() for value in inputs)) for i in range(count)]
    for position, whole in enumerate(found):
        np.testing.assert_array_equal(np.concatenate([one[position] for one in alone]), whole)


def test_rows_of_a_request_are_filled_up_and_do_not_touch_each_other() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU())
    net(torch.randn(50, 6))
    run = compile_module(net, torch.randn(16, 6))
    values = np.random.default_rng(0).normal(size=(37, 6)).astype(np.float32)
    (whole,) = run(values)
    with torch.no_grad():
        np.testing.assert_allclose(whole, net.eval()(torch.from_numpy(values)).numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run(values[20:23])[0], whole[20:23], rtol=1e-5, atol=1e-6)
    assert run(values[:0])[0].shape == (0, 8)
    with pytest.raises(ValueError, match="items of shape"):
        run(values[:, :5])


def test_threads_may_share_a_compiled_network() -> None:
    run = compile_module(torch.nn.Linear(6, 3), torch.randn(1, 6))
    values = np.random.default_rng(0).normal(size=(8, 20, 6)).astype(np.float32)
    results: dict[int, np.ndarray] = {}
    workers = [
        threading.Thread(target=lambda i=i: results.__setitem__(i, run(values[i])[0])) for i in range(8)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for i in range(8):
        np.testing.assert_array_equal(results[i], run(values[i])[0])


class Moody(torch.nn.Module):
    """Computes something else every time: an export cannot equal it."""

    calls = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


def test_an_export_that_differs_is_refused() -> None:
    with pytest.raises(NotSavable, match="differs"):
        to_graph(Moody(), torch.ones(1, 3))


def test_what_cannot_be_exported_is_told() -> None:
    with pytest.raises(NotSavable, match="cannot be exported"):
        to_graph(Special(), torch.ones(1, 2, 2))


class Special(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvalsh(x)


def test_bytes_that_are_no_graph_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        Compiled(b"not a graph")


def test_a_stored_graph_runs_without_torch(tmp_path: Path) -> None:
    net = torch.nn.Linear(4, 2)
    graph = np.frombuffer(to_graph(net, torch.randn(1, 4)), np.uint8)
    write_arrays(tmp_path / "model.safetensors", {"graph_": graph})
    code = (
        "import sys, numpy as np\n"
        "from offnominal.core.store import read_arrays\n"
        "from offnominal.nets.compiled import Compiled\n"
        f"graph = read_arrays({str(tmp_path / 'model.safetensors')!r})['graph_']\n"
        "print(Compiled(graph)(np.ones((3, 4), np.float32))[0].tolist())\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-1000:]
    with torch.no_grad():
        np.testing.assert_allclose(json.loads(done.stdout), net(torch.ones(3, 4)).numpy(), rtol=1e-5)


def test_arrays_rebuild_a_network_through_a_file(tmp_path: Path) -> None:
    def make() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))

    net, other = make(), make()
    net(torch.randn(5, 3, 8, 8))
    write_arrays(tmp_path / "net.safetensors", to_arrays(net))
    load_arrays(other, read_arrays(tmp_path / "net.safetensors"))
    for name, value in net.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value)
    with torch.no_grad():
        other[0].weight.add_(1)
    assert not np.array_equal(to_arrays(other)["0.weight"], to_arrays(net)["0.weight"])


@pytest.mark.parametrize("change", ["missing", "further", "shape", "type"])
def test_arrays_of_another_build_are_refused(change: str) -> None:
    net = torch.nn.Linear(3, 2)
    arrays = to_arrays(net)
    if change == "missing":
        del arrays["bias"]
    elif change == "further":
        arrays["scale"] = np.ones(2, np.float32)
    elif change == "shape":
        arrays["bias"] = np.ones(3, np.float32)
    else:
        arrays["bias"] = arrays["bias"].astype(np.float64)
    with pytest.raises(ModelRefused, match="fit it again"):
        load_arrays(net, arrays)
