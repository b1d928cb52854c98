"""Patch description networks and the auto-encoder beside them (EfficientAD).

Source: Batzner, Heckler & König, "EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level
Latencies", WACV 2024, section 3.1 and appendix A.1.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

STRIDE = 4
FIELD = 33
"""Side of the square of pixels that one output cell sees."""

BORDER = 4
"""Cells that the output lacks at each side of a grid of one cell per `STRIDE` pixels."""

WIDTHS = {"S": 128, "M": 256}


def cells(side: int) -> int:
    """Output cells along a side of so many pixels; cell i sees pixels 4·i … 4·i + 32."""
    if side % STRIDE or side < 48:
        raise ValueError(f"a patch description network takes sides of 48, 52, 56 … pixels, got {side}")
    return side // STRIDE - 2 * BORDER


def patch_description(size: str, outputs: int, scale: float = 1.0) -> nn.Sequential:
    """Make a network of four (S) or six (M) convolutions that describes each 33 × 33 patch.

    Parameters
    ----------
    size : {"S", "M"}
    outputs : int
        Channels of the description.
    scale : float, default 1
        Factor on the widths inside, 128 and 256 (S) or 256 and 512 (M).

    Returns
    -------
    nn.Sequential
        (n, 3, s, s) → (n, outputs, `cells` (s), `cells` (s)); nothing is padded.
    """
    if size not in WIDTHS:
        raise ValueError(f"size must be {' or '.join(WIDTHS)}, got {size!r}")
    width = max(1, round(WIDTHS[size] * scale))
    layers: list[nn.Module] = [
        nn.Conv2d(3, width, 4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(width, 2 * width, 4),
        nn.ReLU(),
        nn.AvgPool2d(2),
    ]
    if size == "M":
        layers += [nn.Conv2d(2 * width, 2 * width, 1), nn.ReLU()]
    layers += [nn.Conv2d(2 * width, 2 * width, 3), nn.ReLU(), nn.Conv2d(2 * width, outputs, 4)]
    if size == "M":
        layers += [nn.ReLU(), nn.Conv2d(outputs, outputs, 1)]
    return nn.Sequential(*layers)


class GlobalAutoEncoder(nn.Module):
    """Predicts the descriptions of a whole image through a code of 64 numbers.

    What does not fit through so narrow a code is fine detail; what does is how parts lie to each other, so
    the prediction is off where an image breaks such a rule.

    Parameters
    ----------
    side : int
        Of the image, in pixels.
    outputs : int
        Channels of the description.
    scale : float, default 1
        Factor on the widths inside, 32 and 64.
    code : int, default 64
    """

    def __init__(self, side: int, outputs: int, scale: float = 1.0, code: int = 64) -> None:
        super().__init__()
        self.cells = cells(side)
        narrow, wide = max(1, round(32 * scale)), max(1, round(64 * scale))
        down: list[nn.Module] = []
        given, left = 3, side
        while left >= 16:
            width = narrow if side // left <= 2 else wide
            down += [nn.Conv2d(given, width, 4, 2, 1), nn.ReLU()]
            given, left = width, left // 2
        self.encode = nn.Sequential(*down, nn.Conv2d(given, code, left))
        self.sides = [s for s in (side // 64, side // 32, side // 16, side // 8, side // 4) if s > 1]
        widths = [code] + [wide] * len(self.sides)
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 4, padding=2), nn.ReLU(), nn.Dropout(0.2))
            for a, b in pairwise(widths)
        )
        self.last = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(), nn.Conv2d(wide, outputs, 3, padding=1)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, side, side) → (n, outputs, cells, cells)."""
        value = self.encode(images)
        for side, layer in zip(self.sides, self.up, strict=True):
            value = layer(_resized(value, side))
        described: torch.Tensor = self.last(_resized(value, self.cells))
        return described


def _resized(value: torch.Tensor, side: int) -> torch.Tensor:
    return functional.interpolate(value, size=(side, side), mode="bilinear", align_corners=False)
