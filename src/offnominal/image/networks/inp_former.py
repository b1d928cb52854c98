"""Prototype extractor and prototype-guided decoder of INP-Former (sections 3.2 to 3.5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from offnominal.image.networks.standard import Standard
from offnominal.nets.attention import ReLUAttention, SoftmaxAttention
from offnominal.nets.transformer import MLP, Block


class PrototypeFormer(nn.Module):
    """Draws prototypes of what is normal from an image, and rebuilds its features from them alone.

    Parameters
    ----------
    scale : Standard
        Brings the joined channels to one scale.
    fuse : tensor (c, width)
        Fixed projection of the joined channels to tokens.
    groups : sequence of int
        Channels of each group of targets, in order; they sum to c.
    prototypes, depth, heads : int
    relu : bool
        Whether the decoder's attention is the ReLU one; soft-max otherwise (ablation).
    residual : bool
        Whether decoder blocks add their input to what attention gives (ablation).
    """

    fuse: torch.Tensor

    def __init__(
        self,
        scale: Standard,
        fuse: torch.Tensor,
        groups: Sequence[int],
        *,
        prototypes: int,
        depth: int,
        heads: int,
        relu: bool,
        residual: bool,
    ) -> None:
        super().__init__()
        width = fuse.shape[1]
        self.scale = scale
        self.register_buffer("fuse", fuse)
        self.groups = list(groups)
        self.queries = nn.Parameter(torch.randn(1, prototypes, width))
        self.extract = Block(width, SoftmaxAttention(width, heads), cross=True)
        self.bottleneck = MLP(width, 4 * width)
        attention = ReLUAttention if relu else SoftmaxAttention
        self.decoder = nn.ModuleList(
            Block(width, attention(width, heads), residual=residual, cross=True) for _ in range(depth)
        )
        self.heads = nn.ModuleList(nn.Linear(width, channels) for channels in groups)

    def prototypes(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Scaled features (n, t, c), tokens (n, t, width) and prototypes (n, p, width) of (n, h, w, c)."""
        scaled = self.scale(features).flatten(1, 2)
        tokens = scaled @ self.fuse
        return scaled, tokens, self.extract(self.queries.expand(len(tokens), -1, -1), tokens)

    def rebuild(self, tokens: torch.Tensor, prototypes: torch.Tensor) -> list[torch.Tensor]:
        """Each group's features (n, t, channels), from the mean of as many decoder blocks.

        The last blocks rebuild the first group: the decoder goes the encoder's way backwards.
        """
        tokens = self.bottleneck(tokens)
        found = []
        for block in self.decoder:
            tokens = block(tokens, prototypes)
            found.append(tokens)
        found.reverse()
        share = max(1, len(found) // len(self.groups))
        parts = [
            torch.stack(found[min(g * share, len(found) - 1) :][:share]).mean(0)
            for g in range(len(self.groups))
        ]
        return [head(part) for head, part in zip(self.heads, parts, strict=True)]

    def targets(self, scaled: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The groups of scaled features."""
        return torch.split(scaled, self.groups, -1)


def distances(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    """Cosine distance of tokens: (n, t, c) twice → (n, t)."""
    return 1 - functional.cosine_similarity(one, two, dim=-1)


def nearest(tokens: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    """Cosine distance (n, t) of each token to the nearest prototype (eq. 3)."""
    alike = functional.normalize(tokens, dim=-1) @ functional.normalize(prototypes, dim=-1).transpose(1, 2)
    return 1 - alike.amax(-1)


def mined(target: torch.Tensor, found: torch.Tensor, power: float) -> torch.Tensor:
    """Soft-mining loss (eq. 8 and 9): cosine distance of whole images, hard places' gradients enlarged.

    The gradient at each token is multiplied by (its distance / the mean distance) ** ``power``.
    """
    with torch.no_grad():
        apart = distances(target, found)
        factor = (apart / apart.mean().clamp_min(1e-12)) ** power
    weighed = found * factor[..., None]
    found = weighed + (found - weighed).detach()  # its value, with the gradient enlarged
    return (1 - functional.cosine_similarity(target.flatten(1), found.flatten(1), dim=-1)).mean()


class Scorer(nn.Module):
    """Scores and grid of a trained network.

    Parameters
    ----------
    former : PrototypeFormer
    by_prototypes : bool
        Take the distance to the nearest prototype instead of the error of what was rebuilt.
    enlarge : tensor (S, h)
        Enlarges and smooths a side of the grid to the model's size.
    top : float
        Share of the map's pixels whose mean is the score.
    """

    enlarge: torch.Tensor

    def __init__(
        self, former: PrototypeFormer, enlarge: torch.Tensor, *, by_prototypes: bool, top: float
    ) -> None:
        super().__init__()
        self.former = former
        self.by_prototypes = by_prototypes
        self.register_buffer("enlarge", enlarge)
        self.count = max(1, round(top * len(enlarge) ** 2))

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, h, w, c) → (n,), (n, h, w)."""
        n, height, width, _ = features.shape
        scaled, tokens, prototypes = self.former.prototypes(features)
        if self.by_prototypes:
            apart = nearest(tokens, prototypes)
        else:
            found = self.former.rebuild(tokens, prototypes)
            each = [distances(a, b) for a, b in zip(self.former.targets(scaled), found, strict=True)]
            apart = torch.stack(each).mean(0)
        grid = apart.reshape(n, height, width)
        places = self.enlarge @ grid @ self.enlarge.T
        return places.flatten(1).topk(self.count, dim=1).values.mean(1), grid
