"""Prompted reconstruction and refiner of OneNIP."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from offnominal.nets.attention import SoftmaxAttention
from offnominal.nets.positions import LearnedGrid
from offnominal.nets.transformer import Block, Transformer

FINER = 4
"""Sides of the refined map, in sides of the feature grid."""


class PromptedReconstruction(nn.Module):
    """Give back the tokens of an image as they would be if it were normal, beside those of a normal one.

    Parameters
    ----------
    channels : int
        Of the features.
    side : (rows, columns)
        Of the grid.
    width, heads, depth : int
        Of the encoder, which image and prompt share, and of the decoder.
    prompted : bool
        Whether the decoder sees the prompt; without it, the image attends to itself (ablation).
    bidirectional : bool
        Whether the prompt's tokens attend to the image's too, or stay as the encoder left them.
    """

    def __init__(
        self,
        channels: int,
        side: tuple[int, int],
        width: int,
        heads: int,
        depth: int,
        *,
        prompted: bool,
        bidirectional: bool,
    ) -> None:
        super().__init__()

        def block(cross: bool) -> Block:
            return Block(width, SoftmaxAttention(width, heads), cross=cross)

        self.into = nn.Linear(channels, width)
        self.places = LearnedGrid(*side, width)
        self.encoder = Transformer(depth, width, lambda: block(False))
        self.to_prompt = nn.ModuleList(block(prompted) for _ in range(depth))
        both = prompted and bidirectional
        self.to_image = nn.ModuleList(block(True) for _ in range(depth - 1)) if both else None
        self.prompted = prompted
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, channels)

    def forward(self, image: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
        """Tokens (n, t, channels) of images and of their prompts → restored tokens (n, t, channels)."""
        query = self._encoded(image)
        context = self._encoded(prompt) if self.prompted else None
        for number, layer in enumerate(self.to_prompt):
            before = query
            query = layer(query, context)
            if self.to_image is not None and number < len(self.to_image):
                context = self.to_image[number](context, before)
        restored: torch.Tensor = self.out(self.norm(query))
        return restored

    def _encoded(self, tokens: torch.Tensor) -> torch.Tensor:
        encoded: torch.Tensor = self.encoder(self.into(tokens) + self.places())
        return encoded


class Refiner(nn.Module):
    """Two up-convolutions from what reconstruction changed to where the image is off.

    Parameters
    ----------
    channels : int
        Of the features.
    width : int
        Of the first block; the second has half of it.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for taken, given in ((channels, width), (width, width // 2)):
            layers += [
                nn.ConvTranspose2d(taken, given, 2, 2),
                nn.GroupNorm(1, given),
                nn.ReLU(),
                nn.Conv2d(given, given, 3, padding=1),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width // 2, 1, 1))

    def forward(self, changed: torch.Tensor) -> torch.Tensor:
        """(n, h, w, channels) → logits (n, 4 h, 4 w)."""
        logits: torch.Tensor = self.layers(changed.permute(0, 3, 1, 2)).squeeze(1)
        return logits


def jittered(features: torch.Tensor, strength: float) -> torch.Tensor:
    """Features (…, c) with Gaussian noise of deviation strength · ‖feature‖ / c (You et al., UniAD, 2022)."""
    if not strength:
        return features
    deviation = strength * features.norm(dim=-1, keepdim=True) / features.shape[-1]
    noisy: torch.Tensor = features + deviation * torch.randn_like(features)
    return noisy


def mask_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and Dice loss of logits (n, h, w) against masks in [0, 1]."""
    found = logits.sigmoid()
    shared = 2 * (found * masks).sum() + 1
    dice = 1 - shared / (found.sum() + masks.sum() + 1)
    loss: torch.Tensor = functional.binary_cross_entropy_with_logits(logits, masks) + dice
    return loss


class Prompted(nn.Module):
    """What is exported: features (n, h, w, c) → scores and maps.

    Parameters
    ----------
    standard : module
        What is done to the features first.
    reconstruction : PromptedReconstruction
    refiner : Refiner or None
    prompts : (p, h, w, c) tensor
        Standardised features of the prompts; each image takes the one whose mean is nearest to its own.
    unit : float
        Error that counts as one half.
    share : float
        Of the refined map in the fused one.
    """

    prompts: torch.Tensor
    means: torch.Tensor

    def __init__(
        self,
        standard: nn.Module,
        reconstruction: PromptedReconstruction,
        refiner: Refiner | None,
        prompts: torch.Tensor,
        unit: float,
        share: float,
    ) -> None:
        super().__init__()
        self.standard, self.reconstruction, self.refiner = standard, reconstruction, refiner
        self.register_buffer("prompts", prompts.flatten(1, 2))
        self.register_buffer("means", prompts.mean((1, 2)))
        self.unit, self.share = unit, share if refiner is not None else 0.0

    def restored(self, features: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Standardised features (n, h, w, c), restored beside the prompt that is nearest to ``like``."""
        apart = (like.mean((1, 2)).unsqueeze(1) - self.means).square().sum(2)
        prompts = self.prompts[apart.argmin(1)]
        made: torch.Tensor = self.reconstruction(features.flatten(1, 2), prompts).reshape(features.shape)
        return made

    def changed(self, features: torch.Tensor) -> torch.Tensor:
        """What reconstruction changes, absolute: (n, h, w, c)."""
        given: torch.Tensor = self.standard(features)
        return (self.restored(given, given) - given).abs()

    def error(self, features: torch.Tensor) -> torch.Tensor:
        """How much it changes each cell: (n, h, w)."""
        return _length(self.changed(features))

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (n,) and fused maps (n, 4 h, 4 w)."""
        changed = self.changed(features)
        error = _length(changed) / (2 * self.unit)
        side = [FINER * length for length in error.shape[1:]]
        fused = functional.interpolate(error.unsqueeze(1), size=side, mode="bilinear", align_corners=False)
        if self.refiner is not None:
            refined = self.refiner(changed).sigmoid().unsqueeze(1)
            fused = (1 - self.share) * fused + self.share * refined
        return functional.avg_pool2d(fused, FINER).flatten(1).amax(1), fused.squeeze(1)


def _length(changed: torch.Tensor) -> torch.Tensor:
    """Root of the mean square over the channels."""
    return changed.square().mean(3).sqrt()
