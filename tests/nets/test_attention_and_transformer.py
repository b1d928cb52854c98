from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from offnominal.nets.attention import (  # noqa: E402
    Attention,
    LinearAttention,
    RelativeBias,
    ReLUAttention,
    SoftmaxAttention,
)
from offnominal.nets.positions import LearnedGrid, LearnedPositions, sinusoidal, sinusoidal_grid  # noqa: E402
from offnominal.nets.seeding import seeded  # noqa: E402
from offnominal.nets.transformer import MLP, Block, Transformer  # noqa: E402


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@torch.no_grad()
def by_hand(module: Attention, queries: torch.Tensor, context: torch.Tensor, weigh) -> torch.Tensor:
    """Attention with a loop over items, heads and queries; ``weigh(head, q, i, keys)`` gives the weights."""
    q, k, v = (
        layer(value)
        for layer, value in zip(
            (module.to_query, module.to_key, module.to_value), (queries, context, context), strict=True
        )
    )
    width = q.shape[-1] // module.heads
    mixed = torch.zeros_like(q)
    for item in range(len(q)):
        for head in range(module.heads):
            part = slice(head * width, (head + 1) * width)
            for place in range(q.shape[1]):
                weights = weigh(head, q[item, place, part], place, k[item, :, part])
                mixed[item, place, part] = sum(
                    w * value for w, value in zip(weights, v[item, :, part], strict=True)
                )
    return module.to_out(mixed)


@pytest.mark.parametrize("cross", [False, True])
def test_softmax_attention_is_the_formula(cross: bool) -> None:
    module = SoftmaxAttention(12, 3).eval()
    queries = tokens(2, 5, 12)
    context = tokens(2, 7, 12, seed=1) if cross else None
    found = module(queries, context)
    expected = by_hand(
        module,
        queries,
        queries if context is None else context,
        lambda head, q, i, keys: ((keys @ q) / math.sqrt(len(q))).softmax(0),
    )
    torch.testing.assert_close(found.detach(), expected, rtol=1e-5, atol=1e-6)
    same, correlation = module.correlate(queries, context)
    torch.testing.assert_close(same, found, rtol=1e-5, atol=1e-6)
    assert correlation.shape == (2, 3, 5, 7 if cross else 5)
    torch.testing.assert_close(correlation.sum(-1), torch.ones(2, 3, 5))


def test_relative_bias_depends_on_distance_alone_and_enters_before_the_softmax() -> None:
    bias = RelativeBias(2, 6)
    with torch.no_grad():
        bias.table.copy_(tokens(2, 11))
    module = SoftmaxAttention(8, 2, relative=bias).eval()
    queries = tokens(1, 6, 8)

    def weigh(head, q, i, keys):
        logits = [float(keys[j] @ q) / 2 + float(bias.table[head, j - i + 5]) for j in range(len(keys))]
        return torch.tensor(logits).softmax(0)

    expected = by_hand(module, queries, queries, weigh)
    torch.testing.assert_close(module(queries).detach(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module.correlate(queries)[0].detach(), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="up to 6"):
        module(tokens(1, 7, 8))


def test_relu_attention_is_the_formula_and_gives_nothing_to_a_stranger() -> None:
    module = ReLUAttention(8, 2).eval()
    with torch.no_grad():
        module.scale.copy_(torch.tensor([0.7, 2.0]).reshape(2, 1, 1))
    queries, context = tokens(2, 4, 8), tokens(2, 3, 8, seed=1)

    def weigh(head, q, i, keys):
        scale = module.scale[head].item()
        return [max(0.0, scale * float(k @ q) / float(k.norm() * q.norm())) for k in keys]

    torch.testing.assert_close(
        module(queries, context).detach(), by_hand(module, queries, context, weigh), rtol=1e-4, atol=1e-6
    )
    with torch.no_grad():  # queries opposite to every key
        module.to_query.weight.copy_(-torch.eye(8))
        module.to_key.weight.copy_(torch.eye(8))
    torch.testing.assert_close(module(context[:, :1], context[:, :1]), module.to_out.bias.expand(2, 1, 8))


def test_linear_attention_equals_its_quadratic_form() -> None:
    module = LinearAttention(8, 2).eval()
    queries, context = tokens(2, 4, 8), tokens(2, 9, 8, seed=1)

    def weigh(head, q, i, keys):
        raw = [float((torch.nn.functional.elu(k) + 1) @ (torch.nn.functional.elu(q) + 1)) for k in keys]
        return [value / sum(raw) for value in raw]

    torch.testing.assert_close(
        module(queries, context).detach(), by_hand(module, queries, context, weigh), rtol=1e-4, atol=1e-6
    )


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple"):
        SoftmaxAttention(10, 3)


def test_block_is_attention_and_mlp_each_after_a_norm() -> None:
    block = Block(8, SoftmaxAttention(8, 2), ratio=2).eval()
    x = tokens(2, 5, 8)
    middle = x + block.attention(torch.nn.functional.layer_norm(x, (8,)))
    hidden = torch.nn.functional.gelu(block.mlp.into(torch.nn.functional.layer_norm(middle, (8,))))
    torch.testing.assert_close(block(x), middle + block.mlp.back(hidden))


def test_without_residual_nothing_but_the_context_gets_through() -> None:
    block = Block(8, ReLUAttention(8, 2), residual=False, cross=True).eval()
    silent = Block(8, _Nothing(), residual=False, cross=True).eval()
    kept = Block(8, _Nothing(), residual=True, cross=True).eval()
    first, second, context = tokens(1, 4, 8), tokens(1, 4, 8, seed=1), tokens(1, 3, 8, seed=2)
    torch.testing.assert_close(silent(first, context), silent(second, context))
    assert not torch.allclose(kept(first, context), kept(second, context))
    assert block(first, context).shape == first.shape
    with pytest.raises(ValueError, match="cross=True"):
        block(first)


class _Nothing(torch.nn.Module):
    def forward(self, queries: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        return torch.zeros_like(queries)


def test_transformer_runs_its_blocks_in_turn() -> None:
    model = Transformer(3, 8, lambda: Block(8, SoftmaxAttention(8, 2))).eval()
    x = tokens(1, 4, 8)
    layers = model.layers(x)
    value = x
    for block, layer in zip(model.blocks, layers, strict=True):
        value = block(value)
        torch.testing.assert_close(layer, value)
    torch.testing.assert_close(model(x), model.norm(value))


def test_dropout_acts_in_training_only() -> None:
    x = tokens(1, 50, 8)
    mlp = MLP(8, 16, dropout=0.5)
    with seeded(0):
        assert (mlp(x) == 0).float().mean() > 0.3
    assert (mlp.eval()(x) == 0).float().mean() < 0.01


def test_sinusoidal_codes_are_the_formula() -> None:
    code = sinusoidal(5, 6)
    for place in range(5):
        for pair in range(3):
            angle = place / 10000 ** (2 * pair / 6)
            assert code[place, 2 * pair] == pytest.approx(math.sin(angle), abs=1e-6)
            assert code[place, 2 * pair + 1] == pytest.approx(math.cos(angle), abs=1e-6)
    grid = sinusoidal_grid(3, 4, 8)
    for row in range(3):
        for column in range(4):
            torch.testing.assert_close(grid[row * 4 + column, :4], sinusoidal(3, 4)[row])
            torch.testing.assert_close(grid[row * 4 + column, 4:], sinusoidal(4, 4)[column])


def test_learned_codes_tell_every_cell_apart() -> None:
    grid = LearnedGrid(3, 4, 6)
    assert grid().shape == (12, 6)
    assert len(torch.unique(grid().detach(), dim=0)) == 12
    torch.testing.assert_close(grid()[5], torch.cat([grid.down[1], grid.across[1]]))
    line = LearnedPositions(7, 4)
    line().sum().backward()
    assert line.table.grad is not None
