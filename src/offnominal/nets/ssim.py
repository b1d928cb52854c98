"""Structural similarity (Wang et al. 2004) as a differentiable measure."""

from __future__ import annotations

import torch
from torch.nn import functional


def ssim(
    first: torch.Tensor,
    second: torch.Tensor,
    *,
    span: float = 1.0,
    window: int = 11,
    sigma: float = 1.5,
) -> torch.Tensor:
    """Compare images place by place.

    Parameters
    ----------
    first, second : (n, c, rows, columns) tensors
    span : float, default 1
        Difference between the largest and the smallest value a pixel can have.
    window : int, default 11
        Side of the Gaussian window, odd.
    sigma : float, default 1.5
        Its standard deviation, in pixels.

    Returns
    -------
    (n, c, rows − window + 1, columns − window + 1) tensor
        At most 1, which is equality. The loss is ``1 - ssim(x, y).mean()``.

    Raises
    ------
    ValueError
        The window is even, or larger than the images.
    """
    rows, columns = first.shape[-2:]
    if window % 2 == 0 or window > min(rows, columns):
        raise ValueError(f"window must be odd and at most {min(rows, columns)}, got {window}")
    offset = torch.arange(window, dtype=first.dtype, device=first.device) - window // 2
    line = torch.exp(-offset.square() / (2 * sigma**2))
    line = line / line.sum()

    def blur(images: torch.Tensor) -> torch.Tensor:
        planes = images.flatten(0, 1).unsqueeze(1)
        down = functional.conv2d(planes, line.reshape(1, 1, -1, 1))
        across = functional.conv2d(down, line.reshape(1, 1, 1, -1))
        return across.reshape(*images.shape[:2], *across.shape[-2:])

    mean_1, mean_2 = blur(first), blur(second)
    variance_1 = blur(first * first) - mean_1 * mean_1
    variance_2 = blur(second * second) - mean_2 * mean_2
    covariance = blur(first * second) - mean_1 * mean_2
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    light = (2 * mean_1 * mean_2 + c1) / (mean_1 * mean_1 + mean_2 * mean_2 + c1)
    structure = (2 * covariance + c2) / (variance_1 + variance_2 + c2)
    return light * structure
