"""What to have labelled when labels are dear, and a detector that learns from them (S031)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadItem, BadItems, BadSource, ExtraMissing, NotFittedError
from offnominal.core.seeds import generator

if TYPE_CHECKING:
    import torch

    from offnominal.audit.paired_losses import Centred, Transformed

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
Querying = Literal["diverse", "random", "highest"]
Backbone = Literal["transformations", "centre"]

_SHARPNESS = 0.01
_SCORED = 4_096  # rows at once
FEWEST = 20


class Labelling:
    """Chooses the items to label, and learns from the labels and from all that have none.

    A user interface drives it: ``query`` names items, ``tell`` takes their labels, ``refit`` learns. One
    round is what the paper does; more are possible.

    Parameters
    ----------
    querying : {"diverse", "random", "highest"}, default "diverse"
        Which items are asked for: spread over the embedding, any, or those with the highest scores.
    backbone : {"transformations", "centre"}, default "transformations"
        Losses of the network: neural transformations, or distance to a centre.
    exposure : bool, default True
        Whether the items without labels that look most anomalous, as many as are believed to be, count as
        half anomalous; else all of them count as normal.
    epochs : int, default 50
        Of `refit`.
    warm_up : int, default 1
        Epochs on all items as normal ones, before the first query.
    batch : int, default 128
    rate : float, default 0.001
        Adam's learning rate.
    seed : int, default 0

    Attributes
    ----------
    told : dict of int to int
        Labels so far by position: 0 normal, 1 anomalous, −1 asked and not known.
    contamination : float
        Estimated share of anomalies among the items without a label; 0 before any is told.

    Notes
    -----
    Queries are drawn one after another with probability in proportion to exp(d / 0.01), where d is the
    distance to the nearest one so far, scaled to [0, 1]; the first is the most central. The share of
    anomalies
    is the mean of y·p(s)/q(s) over the queried, p and q being densities of the scores of all and of the
    queried items (Gaussian kernels, as wide as the scores' range over the number of queries), less the
    anomalies that were found. In training each batch of unlabelled items is ranked by normal less anomalous
    loss; the highest share counts half normal, half anomalous. The score is the normal loss.

    It works on vectors: rows of a table, or embeddings of images, texts or clips, standardised here by
    column. `refit` starts from the warmed-up network each time.

    References
    ----------
    Li, Qiu, Kloft, Smyth, Mandt and Rudolph, Deep anomaly detection under labeling budget constraints, ICML
    2023.
    """

    def __init__(
        self,
        querying: Querying = "diverse",
        backbone: Backbone = "transformations",
        exposure: bool = True,
        epochs: int = 50,
        warm_up: int = 1,
        batch: int = 128,
        rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        if querying not in ("diverse", "random", "highest"):
            raise ValueError(f"querying must be diverse, random or highest, got {querying!r}")
        if backbone not in ("transformations", "centre"):
            raise ValueError(f"backbone must be transformations or centre, got {backbone!r}")
        self.querying = querying
        self.backbone = backbone
        self.exposure = exposure
        self.epochs = epochs
        self.warm_up = warm_up
        self.batch = batch
        self.rate = rate
        self.seed = seed
        self._network: Any = None

    def fit(self, rows: npt.ArrayLike) -> Self:
        """Take the unlabelled items and warm the network up.

        Parameters
        ----------
        rows : (n, d) array
            Vectors of the items, finite.

        Raises
        ------
        BadSource, BadItems
            Fewer than 20 rows, or values that are not finite.
        ExtraMissing
            PyTorch is not installed.
        """
        given = _checked(rows)
        if len(given) < FEWEST:
            raise BadSource(f"{len(given)} items are too few to choose from, at least {FEWEST} are needed")
        self._mean, deviation = given.mean(axis=0), given.std(axis=0)
        self._scale = np.where(deviation > 0, deviation, 1.0)
        self._rows = self._standardised(given)
        self.told: dict[int, int] = {}
        self.contamination = 0.0
        self._asked: list[int] = []
        self._open: list[int] = []
        self._rounds = 0
        self._start = self._fresh()
        if self.warm_up:
            self._train(self._start, self.warm_up, "warm-up")
        self._network = self._start
        return self

    @property
    def scores(self) -> Floats:
        """Scores (n,) of the items, higher = more anomalous, of the network as it is."""
        return self._evaluated(self._fitted(), self._rows)[0]

    def anomaly_score(self, rows: npt.ArrayLike) -> Floats:
        """Score other items.

        Parameters
        ----------
        rows : (m, d) array

        Returns
        -------
        (m,) float64
            Each independent of the others.
        """
        network = self._fitted()
        given = _checked(rows)
        if given.shape[1] != len(self._mean):
            raise BadSource(f"{given.shape[1]} columns, fitted on {len(self._mean)}")
        return self._evaluated(network, self._standardised(given))[0]

    def query(self, k: int) -> Places:
        """Positions (k,) of the items to label next, none of them asked for before.

        Raises
        ------
        BadSource
            Fewer than k are left, or the labels of the last query are not told yet.
        """
        network = self._fitted()
        if self._open:
            raise BadSource(f"{len(self._open)} items are asked for already; tell their labels first")
        left = np.setdiff1d(np.arange(len(self._rows)), self._asked)
        if not 1 <= k <= len(left):
            raise BadSource(f"{k} items to label, {len(left)} are left")
        random = generator(self.seed, "labelling", str(self._rounds))
        self._rounds += 1
        if self.querying == "random":
            chosen = random.choice(left, k, replace=False)
        elif self.querying == "highest":
            chosen = left[np.argsort(-self._evaluated(network, self._rows[left])[0], kind="stable")[:k]]
        else:
            codes = self._evaluated(network, self._rows)[1]
            chosen = diverse(codes, k, self._asked, random)
        self._open = [int(at) for at in chosen]
        self._asked += self._open
        return np.asarray(chosen, dtype=np.intp)

    def tell(self, labels: Sequence[int] | npt.NDArray[Any]) -> Self:
        """Take the labels of the items of the last query, in its order.

        Parameters
        ----------
        labels : (k,) of {0 normal, 1 anomalous, −1 not known}

        Raises
        ------
        BadSource
            Another number of labels than was asked for, or other values.
        """
        given = np.asarray(labels)
        if given.shape != (len(self._open),):
            raise BadSource(f"{len(self._open)} items were asked for, got labels of shape {given.shape}")
        if not np.isin(given, (-1, 0, 1)).all():
            raise BadSource("labels are 0 normal, 1 anomalous, -1 not known")
        self.told |= dict(zip(self._open, given.astype(int).tolist(), strict=True))
        self._open = []
        known = [at for at, label in self.told.items() if label >= 0]
        if known:
            anomalous = np.array([self.told[at] for at in known])
            self.contamination = estimated_share(self.scores, np.array(known), anomalous)
        return self

    def refit(self) -> Self:
        """Learn from the labels and, softly, from the items that have none."""
        self._fitted()
        from offnominal.nets.arrays import load_arrays, to_arrays

        network = self._fresh()
        load_arrays(network, to_arrays(self._start))
        self._train(network, self.epochs, "refit")
        self._network = network
        return self

    # ---------------------------------------------------------------- the network

    def _fresh(self) -> Transformed | Centred:
        try:
            import torch
        except ImportError as error:
            raise ExtraMissing("torch", "learning from labels") from error
        from offnominal.audit.paired_losses import Centred, Transformed
        from offnominal.nets.seeding import seeded

        width = self._rows.shape[1]
        with seeded(self.seed, "labelling"):
            if self.backbone == "transformations":
                return Transformed(width)
            network = Centred(width)
            network.place(torch.from_numpy(self._rows))
            return network

    def _train(self, network: Transformed | Centred, epochs: int, label: str) -> None:
        import torch

        from offnominal.nets.batches import Batches
        from offnominal.nets.training import train

        anomalous = np.array([at for at, known in self.told.items() if known == 1], dtype=np.intp)
        normal = np.array([at for at, known in self.told.items() if known == 0], dtype=np.intp)
        labelled = np.concatenate([normal, anomalous])
        truth = np.repeat(np.array([0, 1], np.float32), [len(normal), len(anomalous)])
        rest = np.setdiff1d(np.arange(len(self._rows)), labelled)
        if not len(rest):
            rest = labelled
        share = self.contamination if self.exposure else 0.0
        per_epoch = max(1, round(len(rest) / self.batch))

        def draw(epoch: int, random: np.random.Generator) -> Iterator[Any]:
            for part in np.array_split(random.permutation(rest), per_epoch):
                some = random.permutation(len(labelled))[: self.batch]
                yield self._rows[part], self._rows[labelled[some]], truth[some]

        def step(batch: Any) -> torch.Tensor:
            unlabelled, known, truths = batch
            as_normal, as_anomalous = network.losses(unlabelled)
            count = round(share * len(unlabelled))
            half = torch.zeros(len(unlabelled), device=unlabelled.device)
            if count:
                half[(as_normal - as_anomalous).detach().topk(count).indices] = 0.5
            loss = ((1 - half) * as_normal + half * as_anomalous).mean()
            if len(known):
                good, bad = network.losses(known)
                loss = loss + ((1 - truths) * good + truths * bad).mean()
            return loss

        train(
            network.train(),
            step,
            Batches(per_epoch, draw),
            torch.optim.Adam(network.parameters(), self.rate),
            epochs=epochs,
            device="cpu",
            seed=self.seed,
            label=f"Labelling, {label}",
        )

    def _evaluated(
        self, network: Transformed | Centred, rows: npt.NDArray[np.float32]
    ) -> tuple[Floats, Floats]:
        """Scores (n,) and embeddings (n, code)."""
        import torch

        scores, codes = [np.empty(0)], []
        with torch.inference_mode():
            for first in range(0, len(rows), _SCORED):
                part = torch.from_numpy(rows[first : first + _SCORED])
                scores.append(network.losses(part)[0].double().numpy())
                codes.append(network.embed(part).double().numpy())
        return np.concatenate(scores), np.concatenate(codes)

    def _standardised(self, rows: Floats) -> npt.NDArray[np.float32]:
        scaled: Floats = np.clip((rows - self._mean) / self._scale, -1e4, 1e4)
        return scaled.astype(np.float32)

    def _fitted(self) -> Transformed | Centred:
        if self._network is None:
            raise NotFittedError("labelling has no items yet; call fit first")
        network: Transformed | Centred = self._network
        return network


def diverse(codes: Floats, k: int, asked: Sequence[int], random: np.random.Generator) -> Places:
    """Draw items that lie apart, as the centres of k-means++ are drawn.

    Parameters
    ----------
    codes : (n, c) float64
        Embeddings.
    k : int
        At most n less those asked for before.
    asked : positions
        Asked for before: they count as drawn.
    random : Generator

    Returns
    -------
    (k,) int
        The first is the most central item where none was asked for before.
    """
    chosen: list[int] = []
    nearest = np.full(len(codes), np.inf)
    for at in asked:
        nearest = np.minimum(nearest, np.linalg.norm(codes - codes[at], axis=1))
    free = np.ones(len(codes), np.bool_)
    free[list(asked)] = False
    while len(chosen) < k:
        if np.isinf(nearest).all():
            at = int(np.linalg.norm(codes - codes.mean(axis=0), axis=1).argmin())
        else:
            distances = nearest[free]
            reach = distances.max() - distances.min()
            scaled = (distances - distances.max()) / reach if reach > 0 else np.zeros(len(distances))
            weights = np.exp(scaled / _SHARPNESS)
            at = int(random.choice(np.flatnonzero(free), p=weights / weights.sum()))
        chosen.append(at)
        free[at] = False
        nearest = np.minimum(nearest, np.linalg.norm(codes - codes[at], axis=1))
    return np.array(chosen, dtype=np.intp)


def estimated_share(scores: Floats, queried: Places, anomalous: npt.NDArray[Any]) -> float:
    """Share of anomalies among the items that were not queried, from those that were.

    Parameters
    ----------
    scores : (n,) float64
        Of all items.
    queried : (k,) int
        Positions of the labelled ones.
    anomalous : (k,) of {0, 1}
        Their labels.

    Returns
    -------
    float
        In [0, 1]. The queried are weighted by how common scores like theirs are among all, against how common
        they are among the queried, which were not drawn evenly.
    """
    n, k = len(scores), len(queried)
    if n == k:
        return float(np.mean(anomalous))
    width = float(scores.max() - scores.min()) / k or 1.0

    def density(at: Floats, of: Floats) -> Floats:
        found: Floats = np.exp(-(((at[:, None] - of) / width) ** 2) / 2).mean(axis=1)
        return found

    mine = scores[queried]
    share = float(np.mean(anomalous * density(mine, scores) / density(mine, mine)))
    return float(np.clip((share * n - anomalous.sum()) / (n - k), 0.0, 1.0))


def _checked(rows: npt.ArrayLike) -> Floats:
    given = np.asarray(rows, dtype=np.float64)
    if given.ndim != 2 or not given.shape[1]:
        raise BadSource(f"items are vectors, shape (n, d), got shape {given.shape}")
    bad = np.flatnonzero(~np.isfinite(given).all(axis=1))
    if len(bad):
        raise BadItems([BadItem(str(i), "holds a value that is not finite", "impute it") for i in bad])
    return given
