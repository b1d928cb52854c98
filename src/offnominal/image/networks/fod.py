"""Intra- and inter-image correlations of FOD, and the Gaussian correlations they are held against."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from offnominal.image.networks.standard import Standard
from offnominal.nets.attention import SoftmaxAttention
from offnominal.nets.positions import sinusoidal_grid
from offnominal.nets.transformer import MLP

EPSILON = 1e-4  # in logarithms of correlations


class Targets(nn.Module):
    """Target correlations: a row-normalised Gaussian about each query's place, its two widths learned.

    Parameters
    ----------
    width, heads, rows, columns : int
    """

    down: torch.Tensor
    across: torch.Tensor

    def __init__(self, width: int, heads: int, rows: int, columns: int) -> None:
        super().__init__()
        self.heads = heads
        self.widths = nn.Linear(width, 2 * heads)
        row = torch.arange(rows, dtype=torch.float32).repeat_interleave(columns)
        column = torch.arange(columns, dtype=torch.float32).repeat(rows)
        self.register_buffer("down", (row[:, None] - torch.arange(rows)) ** 2)
        self.register_buffer("across", (column[:, None] - torch.arange(columns)) ** 2)

    def forward(self, queries: torch.Tensor) -> torch.Tensor:
        """(n, t, width) → (n, heads, t, t), rows sum to 1."""
        raw = self.widths(queries).transpose(1, 2).unflatten(1, (2, self.heads))
        sigma = 3 ** ((5 * raw).sigmoid() + 1e-5) - 1
        down = (-self.down / (2 * sigma[:, 0, ..., None] ** 2)).softmax(-1)
        across = (-self.across / (2 * sigma[:, 1, ..., None] ** 2)).softmax(-1)
        joint: torch.Tensor = (down[..., :, None] * across[..., None, :]).flatten(-2)
        return joint


def divergence(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    """Symmetric Kullback–Leibler divergence of correlations (n, heads, t, k), mean over heads: (n, t)."""
    return ((one - two) * ((one + EPSILON).log() - (two + EPSILON).log())).sum(-1).mean(1)


def entropy(correlation: torch.Tensor) -> torch.Tensor:
    """Entropy of correlations (n, heads, t, k), mean over heads: (n, t)."""
    return -(correlation * (correlation + EPSILON).log()).sum(-1).mean(1)


class Layer(nn.Module):
    """One I2-correlation layer: the difference of attention within the image and to the reference.

    Parameters
    ----------
    width, heads, rows, columns : int
    branches : tuple of str
        "intra", "inter" or both.
    """

    def __init__(self, width: int, heads: int, rows: int, columns: int, branches: tuple[str, ...]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.branches = nn.ModuleDict({name: SoftmaxAttention(width, heads) for name in branches})
        self.targets = nn.ModuleDict({name: Targets(width, heads, rows, columns) for name in branches})
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = MLP(width, 4 * width)

    def forward(
        self, tokens: torch.Tensor, reference: torch.Tensor | None
    ) -> tuple[torch.Tensor, dict[str, tuple[torch.Tensor, torch.Tensor]]]:
        """Tokens and reference (n, t, width) → tokens, and correlation and target of each branch.

        There is no reference without the branch "inter".
        """
        queries = self.norm(tokens)
        found: dict[str, torch.Tensor] = {}
        pairs = {}
        for name, attention in self.branches.items():
            context = None if name == "intra" else reference
            assert isinstance(attention, SoftmaxAttention)
            found[name], correlation = attention.correlate(queries, context)
            pairs[name] = correlation, self.targets[name](queries)
        if len(found) == 2:
            tokens = (tokens + found["intra"]) - (tokens + found["inter"])
        else:
            tokens = tokens + next(iter(found.values()))
        return tokens + self.mlp(self.norm_mlp(tokens)), pairs


class CorrelationFormer(nn.Module):
    """A transformer over the patches of one level.

    Parameters
    ----------
    scale : Standard
    references : tensor (r, h, w, c)
        Representative maps of normals; an image takes the one it resembles most on the whole.
    width, heads, depth : int
    branches : tuple of str
    """

    references: torch.Tensor
    places: torch.Tensor

    def __init__(
        self,
        scale: Standard,
        references: torch.Tensor,
        *,
        width: int,
        heads: int,
        depth: int,
        branches: tuple[str, ...],
    ) -> None:
        super().__init__()
        _, rows, columns, channels = references.shape
        self.scale = scale
        self.register_buffer("references", scale(references).flatten(1, 2))
        self.register_buffer("places", sinusoidal_grid(rows, columns, width))
        self.into = nn.Linear(channels, width)
        self.norm_reference = nn.LayerNorm(width) if "inter" in branches else None
        self.layers = nn.ModuleList(Layer(width, heads, rows, columns, branches) for _ in range(depth))
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, channels))

    def forward(
        self, features: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, list[dict[str, tuple[torch.Tensor, torch.Tensor]]]]:
        """(n, h, w, c) → targets and what was rebuilt, (n, t, c) both, and the correlations of each layer."""
        scaled = self.scale(features).flatten(1, 2)
        tokens = self.into(scaled) + self.places
        context = None if self.norm_reference is None else self.norm_reference(self._reference(scaled))
        correlations = []
        for layer in self.layers:
            tokens, pairs = layer(tokens, context)
            correlations.append(pairs)
        return scaled, self.out(tokens), correlations

    def _reference(self, scaled: torch.Tensor) -> torch.Tensor:
        """Tokens (n, t, width) of the reference that each image resembles most."""
        reference = self.references[:1]
        if len(self.references) > 1:
            apart = (scaled.mean(1)[:, None] - self.references.mean(1)[None]).square().sum(-1)
            reference = self.references[apart.argmin(1)]
        tokens: torch.Tensor = self.into(reference) + self.places
        return tokens.expand(len(scaled), -1, -1)


def rebuilding(target: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Error of each patch (n, t): mean squared, and 1 − cosine."""
    return (target - found).square().mean(-1) + 1 - functional.cosine_similarity(target, found, dim=-1)


def loss(former: CorrelationFormer, features: torch.Tensor, match: float, spread: float) -> torch.Tensor:
    """Both steps of the optimisation at once: what each of them holds fast is detached.

    Targets go after the correlations within the image and away from those to the reference; correlations do
    the opposite, and are drawn to high entropy within the image and to low entropy to the reference.

    Parameters
    ----------
    match, spread : float
        λ1 of the divergence, λ2 of the entropy.
    """
    target, found, layers = former(features)
    total = rebuilding(target, found).mean()
    for pairs in layers:
        for name, (correlation, wanted) in pairs.items():
            sign = 1.0 if name == "intra" else -1.0
            targets_move = divergence(correlation.detach(), wanted).mean()
            attention_moves = divergence(correlation, wanted.detach()).mean()
            term = match * (targets_move - attention_moves) - spread * entropy(correlation).mean()
            total = total + sign * term / len(layers)
    return total


class Scorer(nn.Module):
    """Scores and grid of trained networks, one a level.

    Parameters
    ----------
    formers : list of CorrelationFormer
    grids : list of (h, w)
        Of the levels; the first is that of the result.
    enlarge : list of tensor (S, h)
        Enlarges and smooths a side of each grid to the model's size.
    fuse : bool
        Whether the correlation terms count; else the error alone.
    """

    def __init__(
        self,
        formers: list[CorrelationFormer],
        grids: list[tuple[int, int]],
        enlarge: list[torch.Tensor],
        *,
        fuse: bool,
    ) -> None:
        super().__init__()
        self.formers = nn.ModuleList(formers)
        self.grids = grids
        self.fuse = fuse
        for level, matrix in enumerate(enlarge):
            self.register_buffer(f"enlarge{level}", matrix)

    def level(self, former: nn.Module, features: torch.Tensor) -> torch.Tensor:
        """Anomaly of each patch (n, t) of one level."""
        target, found, layers = former(features)
        error = rebuilding(target, found)
        if not self.fuse:
            return error
        factor = torch.zeros_like(error)
        for name in layers[0]:
            apart = torch.stack([divergence(*pairs[name]) for pairs in layers]).mean(0)
            near = (-apart).softmax(-1) * apart.shape[-1]
            factor = factor + (near if name == "intra" else near.amax(-1, keepdim=True) - near)
        return error * factor

    def forward(self, *levels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, h, w, c) a level → (n,), (n, h, w)."""
        total = places = None
        for number, (former, features) in enumerate(zip(self.formers, levels, strict=True)):
            grid = self.level(former, features).reshape(-1, *self.grids[number])
            matrix = getattr(self, f"enlarge{number}")
            place = matrix @ grid @ matrix.T
            shown = functional.interpolate(grid[:, None], self.grids[0], mode="bilinear")[:, 0]
            places = place if places is None else places + place
            total = shown if total is None else total + shown
        assert places is not None
        assert total is not None
        return places.flatten(1).amax(1) / len(levels), total / len(levels)
