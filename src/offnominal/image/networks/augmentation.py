"""Random views of images for contrastive learning: crops, flips, colours and blur, on whole batches."""

from __future__ import annotations

import torch
from torch import nn

GREY = (0.299, 0.587, 0.114)
BLUR = 6
"""Reach of the blur's window in pixels."""


class RandomViews(nn.Module):
    """Each image of a batch changed at random in its own way; all chance is torch's.

    Parameters
    ----------
    least : float
        Smallest share of the area that a crop keeps; 1 keeps the whole image.
    colour : float
        Strength of the changes of brightness, contrast and saturation, each by a factor within
        1 ± ``colour``; applied to four images of five.
    grey : float
        Chance that an image loses its colour.
    blur : float
        Chance that an image is blurred, by 0.1 to 2 pixels.
    """

    weights: torch.Tensor

    def __init__(self, least: float = 0.2, colour: float = 0.4, grey: float = 0.2, blur: float = 0.5) -> None:
        super().__init__()
        self.least = least
        self.colour = colour
        self.grey = grey
        self.blur = blur
        self.register_buffer("weights", torch.tensor(GREY).reshape(1, 3, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, S, S, 3) in 0…255 → the same."""
        images = self._cropped(pixels.permute(0, 3, 1, 2))
        if self.colour:
            images = self._coloured(images)
        if self.grey:
            lost = self._luck(images, self.grey)
            images = torch.where(lost, self._in_grey(images).expand_as(images), images)
        if self.blur:
            images = torch.where(self._luck(images, self.blur), self._blurred(images), images)
        return images.clamp(0, 255).permute(0, 2, 3, 1)

    def _luck(self, images: torch.Tensor, chance: float) -> torch.Tensor:
        return torch.rand(len(images), 1, 1, 1, device=images.device) < chance

    def _draw(self, images: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(len(images), 1, 1, 1, device=images.device)

    def _in_grey(self, images: torch.Tensor) -> torch.Tensor:
        return (images * self.weights).sum(1, keepdim=True)

    def _cropped(self, images: torch.Tensor) -> torch.Tensor:
        """A part of random size, place and shape (3:4 to 4:3), mirrored half of the time."""
        count, device = len(images), images.device
        area = self.least + (1 - self.least) * torch.rand(count, device=device)
        shape = torch.exp((2 * torch.rand(count, device=device) - 1) * 0.2877 * (self.least < 1))
        high, wide = (area * shape).sqrt().clamp_max(1), (area / shape).sqrt().clamp_max(1)
        down = (2 * torch.rand(count, device=device) - 1) * (1 - high)
        right = (2 * torch.rand(count, device=device) - 1) * (1 - wide)
        mirrored = 1 - 2 * (torch.rand(count, device=device) < 0.5).float()
        nothing = torch.zeros_like(high)
        turn = torch.stack([wide * mirrored, nothing, right, nothing, high, down], 1).reshape(-1, 2, 3)
        grid = nn.functional.affine_grid(turn, list(images.shape), align_corners=False)
        return nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)

    def _coloured(self, images: torch.Tensor) -> torch.Tensor:
        low, high = 1 - self.colour, 1 + self.colour
        changed = images * self._draw(images, low, high)
        middle = self._in_grey(changed).mean((2, 3), keepdim=True)
        changed = middle + (changed - middle) * self._draw(images, low, high)
        grey = self._in_grey(changed)
        changed = grey + (changed - grey) * self._draw(images, low, high)
        return torch.where(self._luck(images, 0.8), changed, images)

    def _blurred(self, images: torch.Tensor) -> torch.Tensor:
        """A Gaussian of a width of each image's own, columns after rows."""
        count, channels, height, width = images.shape
        offsets = torch.arange(-BLUR, BLUR + 1, device=images.device, dtype=images.dtype)
        kernel = torch.exp(-0.5 * (offsets / self._draw(images, 0.1, 2.0)).square())
        kernel = (kernel / kernel.sum(-1, keepdim=True)).expand(count, channels, 1, -1)
        kernel = kernel.reshape(count * channels, 1, 1, -1)
        flat = images.reshape(1, count * channels, height, width)
        for turned in (kernel, kernel.transpose(2, 3)):
            padding = (BLUR, BLUR, 0, 0) if turned is kernel else (0, 0, BLUR, BLUR)
            padded = nn.functional.pad(flat, padding, mode="replicate")
            flat = nn.functional.conv2d(padded, turned, groups=count * channels)
        return flat.reshape(images.shape)
