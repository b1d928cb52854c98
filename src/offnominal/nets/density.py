"""Mixture-density head (Bishop 1994): a mixture of diagonal Gaussians whose parameters a network predicts."""

from __future__ import annotations

import math

import torch
from torch import nn


class MixtureDensity(nn.Module):
    """Predict a mixture from an input, and give the log-likelihood of a target under it.

    Parameters
    ----------
    width : int
        Channels of the input.
    dimensions : int
        Channels of the target.
    components : int
        Gaussians.
    floor : float, default 1e-3
        Smallest standard deviation: without one, the likelihood grows without bound on a component that sits
        on a single target.
    """

    def __init__(self, width: int, dimensions: int, components: int, *, floor: float = 1e-3) -> None:
        super().__init__()
        if floor <= 0:
            raise ValueError(f"floor must be above 0, got {floor}")
        self.floor = floor
        self.shape = (components, dimensions)
        self.weights = nn.Linear(width, components)
        self.means = nn.Linear(width, components * dimensions)
        self.deviations = nn.Linear(width, components * dimensions)

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(…, width) → log-weights (…, k), means (…, k, d), standard deviations (…, k, d)."""
        log_weights = self.weights(inputs).log_softmax(-1)
        shape = (*inputs.shape[:-1], *self.shape)
        means = self.means(inputs).reshape(shape)
        deviations = self.floor + nn.functional.softplus(self.deviations(inputs)).reshape(shape)
        return log_weights, means, deviations

    def log_likelihood(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Log-density (…,) in nats of targets (…, d) given inputs (…, width): log-sum-exp over components."""
        log_weights, means, deviations = self(inputs)
        away = (targets.unsqueeze(-2) - means) / deviations
        constant = math.log(2 * math.pi) * self.shape[1]
        each = -(away.square().sum(-1) + constant) / 2 - deviations.log().sum(-1)
        joint: torch.Tensor = log_weights + each
        # Written out: the exported form of torch.logsumexp is read by the CPU runtime as a sum over all axes.
        top = joint.detach().amax(-1, keepdim=True)
        return top.squeeze(-1) + (joint - top).exp().sum(-1).log()
