"""What every decision is: fitted on scores, it turns scores into p-values and verdicts."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from offnominal.decide.inputs import Floats


@dataclass(frozen=True)
class Verdicts:
    """What a decision says about n scores.

    Attributes
    ----------
    p_value : (n,) float64
        Probability of a score at least as high for a normal item, in (0, 1]; NaN where there is none.
    anomalous : (n,) int8
        1 anomalous, 0 normal, −1 no verdict.
    basis : list of n str or None
        What the p-value and verdict rest on: ``"rank"`` (rank among normal scores), ``"tail"`` (a tail
        fitted to them, beyond the highest), ``"declared"`` (a threshold or law the user stated), None.
    note : str or None
        What a reader must know, such as how many normals a verdict would need.
    """

    p_value: Floats
    anomalous: npt.NDArray[np.int8]
    basis: list[str | None]
    note: str | None = None

    def __len__(self) -> int:
        return len(self.basis)


class Decision(ABC):
    """Base of the decisions; takes scores, never data.

    Fit it on scores the model was **not** fitted on (held out or cross-fitted): scores of the model's own
    training items are too low, and every false-alarm rate made from them is too.
    """

    name: ClassVar[str]
    """Public name, as `decision` takes it."""

    @abstractmethod
    def fit(
        self,
        scores: npt.ArrayLike,
        labels: npt.ArrayLike | None = None,
        products: Sequence[str | None] | None = None,
        groups: Sequence[Hashable] | None = None,
    ) -> Self:
        """Learn from scores.

        Parameters
        ----------
        scores : (n,) array
            Finite, higher = more anomalous.
        labels : (n,) array of {0 normal, 1 anomalous, −1 unknown}, optional
            Without labels all items count as normal (`Contamination` and `BestF1` say otherwise). With
            labels the normals are those labelled 0 or, where no item is labelled 0, those labelled −1.
        products : n names, optional
            Product kind of each item, None where it is unknown.
        groups : n names, optional
            Items of one group (patient, part, recording) resemble each other; None is a group by itself.
            `Conformal` counts each group as one.

        Raises
        ------
        BadSource, BadItems
            Shapes or values that cannot be used, named by position.
        """

    @abstractmethod
    def judge(self, scores: npt.ArrayLike, products: Sequence[str | None] | None = None) -> Verdicts:
        """Judge each score for itself: the answer for one never depends on the others.

        Parameters
        ----------
        scores : (n,) array
            Finite, from the model whose scores the decision was fitted on.
        products : n names, optional
            Product kind of each item, None where it is unknown.

        Raises
        ------
        NoDecisionError
            The decision has to be fitted first.
        BadSource, BadItems
            Shapes or values that cannot be used, named by position.
        """

    @property
    @abstractmethod
    def threshold(self) -> float | None:
        """Score strictly above which an item of no known product is anomalous; None where there is none."""

    @abstractmethod
    def report(self) -> dict[str, Any]:
        """Describe the fitted decision, as JSON values.

        Returns
        -------
        dict
            ``decision``, ``parameters``; ``n`` normals, ``basis``, ``threshold``;
            ``asked_false_alarm_rate``, ``expected_false_alarm_rate`` (for new normals),
            ``realised_false_alarm_rate`` (share of the fitted normals above the threshold, in sample);
            ``note``; ``products``: the same for each product by name. None stands for what is unknown.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What `fit` learned, as JSON values and one-dimensional float64 arrays; empty before it."""

    @classmethod
    @abstractmethod
    def restore(cls, params: Mapping[str, Any], state: Mapping[str, Any]) -> Self:
        """Make the decision again from `get_params` and `state`.

        Raises
        ------
        ModelRefused
            The two do not describe a decision of this kind.
        """

    def get_params(self) -> dict[str, Any]:
        """Constructor arguments by name, unchanged."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({arguments})"
