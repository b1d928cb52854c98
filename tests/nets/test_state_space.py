from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from offnominal.nets.state_space import (  # noqa: E402
    SelectiveScan,
    linear_scan,
    linear_scan_in_turn,
    selective_scan,
)


def parts(length: int, seed: int = 0, n: int = 2, d: int = 3, s: int = 4) -> tuple[torch.Tensor, ...]:
    random = np.random.default_rng(seed)
    rate = -np.exp(random.normal(size=(d, s)))
    step = random.exponential(size=(n, length, d))
    values = [random.normal(size=(n, length, w)) for w in (d, s, s)] + [random.normal(size=d)]
    u, into, out, skip = (torch.from_numpy(v).float() for v in values)
    return u, torch.from_numpy(step).float(), torch.from_numpy(rate).float(), into, out, skip


def by_hand(u, step, rate, into, out, skip) -> np.ndarray:
    u, step, rate, into, out, skip = (np.asarray(v, np.float64) for v in (u, step, rate, into, out, skip))
    n, length, d = u.shape
    result = np.zeros((n, length, d))
    for i in range(n):
        for c in range(d):
            state = np.zeros(rate.shape[1])
            for t in range(length):
                state = np.exp(step[i, t, c] * rate[c]) * state + step[i, t, c] * into[i, t] * u[i, t, c]
                result[i, t, c] = out[i, t] @ state + skip[c] * u[i, t, c]
    return result


@settings(max_examples=30, deadline=None)
@given(length=st.integers(1, 70), piece=st.one_of(st.none(), st.integers(1, 80)), seed=st.integers(0, 99))
def test_the_scan_equals_the_recurrence_at_any_length_and_piece(length: int, piece: int, seed: int) -> None:
    given_parts = parts(length, seed)
    found = selective_scan(*given_parts, piece=piece)
    np.testing.assert_allclose(found, by_hand(*given_parts), rtol=1e-5, atol=1e-5)


def test_strong_decay_and_none_stay_exact() -> None:
    drive = torch.randn(1, 300, 2, generator=torch.Generator().manual_seed(0))
    decay = torch.stack([torch.zeros(1, 300), torch.ones(1, 300)], dim=-1)
    found = linear_scan(decay, drive)
    torch.testing.assert_close(found[..., 0], drive[..., 0])
    torch.testing.assert_close(found[..., 1], drive[..., 1].cumsum(1), rtol=1e-5, atol=1e-5)


def test_the_gradient_is_that_of_the_recurrence() -> None:
    generator = torch.Generator().manual_seed(0)
    decay = torch.rand(2, 23, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    drive = torch.randn(2, 23, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 23, 3, generator=generator, dtype=torch.float64)
    expected = torch.autograd.grad((linear_scan_in_turn(decay, drive) * weight).sum(), (decay, drive))
    found = torch.autograd.grad((linear_scan(decay, drive) * weight).sum(), (decay, drive))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    assert torch.autograd.gradcheck(lambda a, x: linear_scan(a, x, 4), (decay[:, :9], drive[:, :9]))


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        linear_scan(torch.rand(1, 4, 2), torch.rand(1, 4, 1))


def test_pieces_side_by_side_are_faster_than_one_by_one_at_length_1024() -> None:
    """With gradients, medians of interleaved runs: about 6; 1.3 leaves room for busy machines."""
    decay = torch.rand(1, 1024, 32, 8, requires_grad=True)
    drive = torch.rand(1, 1024, 32, 8, requires_grad=True)
    spent: dict[str, list[float]] = {"turn": [], "pieces": []}
    for _ in range(9):
        for name, scan in (("turn", linear_scan_in_turn), ("pieces", linear_scan)):
            start = time.perf_counter()
            scan(decay, drive).sum().backward()
            spent[name].append(time.perf_counter() - start)
    assert np.median(spent["turn"]) > 1.3 * np.median(spent["pieces"])


def test_the_module_keeps_directions_apart_and_looks_back_only() -> None:
    torch.manual_seed(0)
    module = SelectiveScan(6, state=4, directions=3)
    x = torch.randn(2, 3, 20, 6)
    whole = module(x)
    assert whole.shape == x.shape
    changed = x.clone()
    changed[:, 1, 12:] += 1.0
    other = module(changed)
    torch.testing.assert_close(other[:, [0, 2]], whole[:, [0, 2]])
    torch.testing.assert_close(other[:, 1, :12], whole[:, 1, :12])
    assert not torch.allclose(other[:, 1, 12:], whole[:, 1, 12:])
    whole.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_the_module_is_the_formula_of_each_direction() -> None:
    torch.manual_seed(1)
    module = SelectiveScan(5, state=3, rank=2, directions=2)
    x = torch.randn(1, 2, 11, 5)
    found = module(x).detach()
    with torch.no_grad():
        for way in range(2):
            mixed = x[:, way] @ module.project[way].T
            step = torch.nn.functional.softplus(mixed[..., :2] @ module.widen[way].T + module.bias[way])
            expected = by_hand(
                x[:, way],
                step,
                -module.log_rate[way].exp(),
                mixed[..., 2:5],
                mixed[..., 5:],
                module.skip[way],
            )
            np.testing.assert_allclose(found[:, way], expected, rtol=1e-4, atol=1e-5)
    first = torch.nn.functional.softplus(module.bias.detach())
    assert float(first.min()) >= 0.00099
    assert float(first.max()) <= 0.1001
