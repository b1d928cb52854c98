"""Networks with two losses, low for normal rows and low for anomalous ones, that labels can be taught to."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Losses = tuple[Tensor, Tensor]


class Transformed(nn.Module):
    """Learned views of a row that are to be told apart, and yet resemble the row (neural transformations).

    Parameters
    ----------
    width : int
        Columns of a row.
    views : int
    hidden : int
        Width of the hidden layers.
    code : int
        Width of the embedding.
    temperature : float

    Notes
    -----
    View k is sigmoid(M_k(x)) · x. With h(a, b) = exp(cos(a, b) / temperature) of embeddings, a view's
    chance is
    c_k = h(view, row) / (h(view, row) + Σ h(view, other views)); the normal loss is −Σ log c_k, the anomalous
    one −Σ log(1 − c_k).

    Source: Qiu, Pfrommer, Kloft, Mandt and Rudolph, Neural transformation learning for deep anomaly detection
    beyond images, ICML 2021; Qiu, Li, Kloft, Rudolph and Mandt, Latent outlier exposure, ICML 2022 (the
    anomalous loss).
    """

    def __init__(
        self, width: int, views: int = 8, hidden: int = 64, code: int = 24, temperature: float = 0.1
    ) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(views, width, hidden) / width**0.5)
        self.second = nn.Parameter(torch.randn(views, hidden, width) / hidden**0.5)
        self.encoder = nn.Sequential(
            nn.Linear(width, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, code, bias=False),
        )
        self.temperature = temperature

    def embed(self, rows: Tensor) -> Tensor:
        """Embedding (n, code)."""
        found: Tensor = self.encoder(rows)
        return found

    def losses(self, rows: Tensor) -> Losses:
        """Normal and anomalous loss (n,) of rows (n, width)."""
        masks = torch.einsum("nd,kdh->nkh", rows, self.first).relu()
        views = torch.einsum("nkh,khd->nkd", masks, self.second).sigmoid() * rows[:, None]
        codes = nn.functional.normalize(self.encoder(torch.cat([rows[:, None], views], dim=1)), dim=-1)
        alike = codes[:, 1:] @ codes.transpose(1, 2) / self.temperature  # (n, views, row and views)
        itself = torch.eye(alike.shape[1], dtype=torch.bool, device=rows.device)
        itself = nn.functional.pad(itself, (1, 0))
        logs = alike.masked_fill(itself, -torch.inf).log_softmax(dim=-1)
        normal = -logs[..., 0]
        anomalous = -logs[..., 1:].logsumexp(dim=-1)
        return normal.sum(dim=1), anomalous.sum(dim=1)


class Centred(nn.Module):
    """Distance of an embedding to the middle it started from (deep support vector data description).

    Parameters
    ----------
    width : int
    hidden : int
    code : int

    Notes
    -----
    The normal loss is the squared distance, the anomalous one its inverse. Layers have no bias, or all rows
    could fall onto the centre.

    Source: Ruff et al., Deep one-class classification, ICML 2018; Deep semi-supervised anomaly detection,
    ICLR 2020 (the inverse).
    """

    centre: Tensor

    def __init__(self, width: int, hidden: int = 64, code: int = 24) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(width, hidden, bias=False), nn.LeakyReLU(), nn.Linear(hidden, code, bias=False)
        )
        self.register_buffer("centre", torch.zeros(code))

    def place(self, rows: Tensor) -> None:
        """Put the centre where the rows are, and not at 0, where the network could send everything."""
        with torch.no_grad():
            middle = self.encoder(rows).mean(dim=0)
            self.centre = torch.where(middle.abs() < 0.1, middle.sign() * 0.1 + (middle == 0) * 0.1, middle)

    def embed(self, rows: Tensor) -> Tensor:
        """Embedding (n, code)."""
        found: Tensor = self.encoder(rows)
        return found

    def losses(self, rows: Tensor) -> Losses:
        """Normal and anomalous loss (n,) of rows (n, width)."""
        normal = ((self.encoder(rows) - self.centre) ** 2).sum(dim=1)
        return normal, 1 / (normal + 1e-6)
