"""Conformal p-values: a false-alarm rate held without assuming what normal scores look like."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadSource, ModelRefused, NoDecisionError
from offnominal.decide.base import Decision, Verdicts
from offnominal.decide.calibration import FEWEST_RANKED, Calibration
from offnominal.decide.inputs import (
    Floats,
    Products,
    check_groups,
    check_labels,
    check_products,
    check_rate,
    check_scores,
    normal_positions,
    positions_by_product,
)
from offnominal.decide.tally import share_above


class Conformal(Decision):
    """Split-conformal p-values and verdicts at a false-alarm rate; the default decision.

    p = (1 + #{calibration ≥ score}) / (n + 1), from the normals of the item's own product where they are
    enough, else of all products pooled. If new normal items are exchangeable with the calibrating ones,
    P(p ≤ α) ≤ α for every α, whatever the scores' distribution; ties count against an alarm. Where the
    normals come in groups and each group counts as one (`offnominal.decide.calibration.Calibration`), that
    holds for items of new groups: twenty photographs of one part tell as much of the next part as one does.

    Parameters
    ----------
    false_alarm_rate : float, default 0.01
        Share of new normal items that may be called anomalous, in (0, 1).
    by_group : bool or None, default None
        Whether a group counts as one. None: where there are groups enough for a verdict; where not, each
        item counts, a note says so, and the rate holds for further items of the same groups only.

    Notes
    -----
    With n normals the ranks reach a rate of 1/(n+1). Below it, down to a tenth of it and from 50 normals on,
    a tail is fitted to the highest scores (`offnominal.decide.tail.Tail`); verdicts beyond the ranks say
    ``basis="tail"``. That step does assume something: that the scores beyond the highest go on like the
    highest ones. It errs on the low side for normal, exponential, lognormal, uniform and bimodal scores, but
    not for much heavier tails (Pareto of index 2: up to 1.2 times the asked rate), and no tail can know of
    a rare kind of normal item that the calibration did not see. With fewer normals the
    p-value stands without a verdict, and under 20 there is neither.

    A product is judged on its own normals where there are at least 20 and they reach the rate (by rank or
    tail), or where the pooled ones do not reach it either. Otherwise, and where the product is not known,
    the pooled normals judge it: then the rate holds over the mixture of products, not for each, and
    `report` shows what it was for each.

    The rate holds on average over calibration sets; for one calibration set it follows a beta distribution
    (``metrics.false_alarm_spread``).

    References
    ----------
    Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005, section 2. Bates, Candès, Lei,
    Romano and Sesia, Testing for outliers with conformal p-values, Annals of Statistics, 2023. Lee, Barber
    and Willett, Distribution-free inference with hierarchical data, 2023.
    """

    name: ClassVar[str] = "conformal"

    def __init__(self, false_alarm_rate: float = 0.01, by_group: bool | None = None) -> None:
        check_rate(false_alarm_rate, "false_alarm_rate")
        if by_group not in (None, True, False):
            raise ValueError(f"by_group must be true, false or none, got {by_group!r}")
        self.false_alarm_rate = false_alarm_rate
        self.by_group = by_group
        self._scores_by_product: dict[str | None, Floats] | None = None
        self._groups_by_product: dict[str | None, npt.NDArray[np.intp]] | None = None

    def fit(
        self,
        scores: npt.ArrayLike,
        labels: npt.ArrayLike | None = None,
        products: Sequence[str | None] | None = None,
        groups: Sequence[Hashable] | None = None,
    ) -> Self:
        """Keep the scores of the normal items, by product.

        Parameters
        ----------
        scores, labels, products, groups
            As `Decision.fit` takes them. No scores at all is allowed, and gives no verdicts.
        """
        values = check_scores(scores)
        kept = normal_positions(check_labels(labels, len(values)), len(values))
        if len(values) and not len(kept):
            raise BadSource(
                f"all {len(values)} items are labelled anomalous (1); conformal needs normal ones"
            )
        names = check_products(products, len(values))
        members = check_groups(groups, len(values))
        values, names = values[kept], [names[i] for i in kept]
        by_product, together = {}, {}
        for name, at in positions_by_product(names).items():
            order = at[np.argsort(values[at], kind="stable")]
            by_product[name] = values[order]
            if members is not None:
                together[name] = members[kept][order]
        return self._calibrate(by_product, together or None)

    def _calibrate(
        self,
        by_product: dict[str | None, Floats],
        together: dict[str | None, npt.NDArray[np.intp]] | None = None,
    ) -> Self:
        self._scores_by_product, self._groups_by_product = by_product, together
        everything = np.concatenate([np.empty(0), *by_product.values()])
        members = None if together is None else np.concatenate(list(together.values()))
        self._pooled = self._calibration(everything, members)
        self._own: dict[str, Calibration] = {}
        for name, values in by_product.items():
            if name is None or len(values) < FEWEST_RANKED:
                continue
            own = self._calibration(values, None if together is None else together[name])
            if own.basis is not None or self._pooled.basis is None:
                self._own[name] = own
        return self

    def _calibration(self, scores: Floats, groups: npt.NDArray[np.intp] | None) -> Calibration:
        single = Calibration(scores, self.false_alarm_rate)
        if groups is None or self.by_group is False:
            return single
        grouped = Calibration(scores, self.false_alarm_rate, groups)
        if grouped.basis is not None or single.basis is None or self.by_group or grouped.n_groups == single.n:
            return grouped
        single.note = (
            f"each of {single.n} normal scores counts, though they are of {grouped.n_groups} groups: the "
            f"rate holds for further items of these groups; for new groups it takes {grouped.needed} groups"
        )
        return single

    def judge(self, scores: npt.ArrayLike, products: Sequence[str | None] | None = None) -> Verdicts:
        """p-values and verdicts; see `Decision.judge`."""
        by_product = self._fitted()
        values = check_scores(scores)
        names: Products = check_products(products, len(values))
        p_value = np.empty(len(values))
        anomalous = np.empty(len(values), dtype=np.int8)
        basis = np.empty(len(values), dtype=object)
        notes: list[str] = []
        pooled_positions: list[npt.NDArray[np.intp]] = []
        several = any(name is not None for name in by_product)
        for name, at in positions_by_product(names).items():
            own = None if name is None else self._own.get(name)
            if own is None:
                pooled_positions.append(at)
                if name is not None and several and name not in by_product:
                    notes.append(f"{name}: no normals of this product, judged on all products pooled")
                continue
            p_value[at], anomalous[at], basis[at] = own.judge(values[at])
            if own.note:
                notes.append(f"{name}: {own.note}")
        if pooled_positions:
            at = np.concatenate(pooled_positions)
            p_value[at], anomalous[at], basis[at] = self._pooled.judge(values[at])
            if self._pooled.note:
                notes.insert(0, self._pooled.note)
        return Verdicts(p_value, anomalous, basis.tolist(), "; ".join(notes) or None)

    @property
    def threshold(self) -> float | None:
        """Pooled score strictly above which an item is anomalous; None without a verdict."""
        return None if self._scores_by_product is None else self._pooled.threshold

    def report(self) -> dict[str, Any]:
        """Describe the calibration; see `Decision.report`.

        Each product adds ``judged_by`` (``"own"`` or ``"pooled"`` normals, where the product is known) and
        ``realised_pooled``, the share of its normals above the pooled threshold: its false-alarm rate where
        the product is not known.
        """
        by_product = self._fitted()
        products = {}
        for name, values in by_product.items():
            if name is None:
                continue
            judge = self._own.get(name, self._pooled)
            products[name] = self._describe(judge, values) | {
                "judged_by": "own" if name in self._own else "pooled",
                "realised_pooled": share_above(values, self._pooled.threshold),
            }
        return {
            "decision": self.name,
            "parameters": self.get_params(),
            "asked_false_alarm_rate": self.false_alarm_rate,
            **self._describe(self._pooled, self._pooled.ordered),
            "products": products,
        }

    @staticmethod
    def _describe(judge: Calibration, normals: Floats) -> dict[str, Any]:
        return {
            "n": len(normals),
            "groups": judge.n_groups,
            "basis": judge.basis,
            "threshold": judge.threshold,
            "expected_false_alarm_rate": judge.expected,
            "realised_false_alarm_rate": share_above(normals, judge.threshold),
            "note": judge.note,
        }

    def state(self) -> dict[str, Any]:
        """Calibration scores (ascending within each product) with the products' names and sizes.

        ``groups`` holds the number of each score's group, where the normals came in groups.
        """
        if self._scores_by_product is None:
            return {}
        kept: dict[str, Any] = {}
        if self._groups_by_product is not None:
            kept["groups"] = np.concatenate(list(self._groups_by_product.values())).astype(np.float64)
        return kept | {
            "scores": np.concatenate([np.empty(0), *self._scores_by_product.values()]),
            "products": list(self._scores_by_product),
            "counts": [len(values) for values in self._scores_by_product.values()],
        }

    @classmethod
    def restore(cls, params: Mapping[str, Any], state: Mapping[str, Any]) -> Self:
        """Make the decision again; see `Decision.restore`."""
        try:
            made = cls(**params)
            if not state:
                return made
            scores = check_scores(state["scores"])
            names, counts = list(state["products"]), list(state["counts"])
            whole = all(type(count) is int and count > 0 for count in counts)
            if not whole or sum(counts) != len(scores) or len(set(names)) != len(names):
                raise ValueError("products, counts and scores do not belong together")
            if len(names) != len(counts):
                raise ValueError(f"{len(names)} products, {len(counts)} counts")
            names = check_products(names, len(names))
            cuts = np.cumsum(counts)[:-1]
            blocks = np.split(scores, cuts) if counts else []
            if any((np.diff(block) < 0).any() for block in blocks):
                raise ValueError("the scores are not ascending")
            by_product = dict(zip(names, blocks, strict=True))
            if "groups" not in state:
                return made._calibrate(by_product)
            members = check_scores(state["groups"])
            if len(members) != len(scores):
                raise ValueError(f"{len(members)} groups, {len(scores)} scores")
            numbered = np.split(members.astype(np.intp), cuts)
            return made._calibrate(by_product, dict(zip(names, numbered, strict=True)))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelRefused(f"the stored conformal decision is damaged: {error!r}") from error

    def _fitted(self) -> dict[str | None, Floats]:
        if self._scores_by_product is None:
            raise NoDecisionError("the conformal decision is not fitted; calibrate on scores of normal items")
        return self._scores_by_product
