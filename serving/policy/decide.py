"""Hard rules on raw features first, then the contract's thresholds on the score."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

DECISIONS = ("approve", "review", "decline")
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_BY_BAND = np.array(DECISIONS, dtype=object)


class Thresholds(Protocol):
    @property
    def review(self) -> float: ...
    @property
    def decline(self) -> float: ...


class Rule(Protocol):
    @property
    def feature(self) -> str: ...
    @property
    def op(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def decision(self) -> str: ...
    @property
    def reason(self) -> str: ...


class Policy(Protocol):
    """The part of a contract that decides; serving.bundle's Contract is one."""

    @property
    def decision(self) -> Thresholds: ...
    @property
    def rules(self) -> Sequence[Rule]: ...


class Decisions(NamedTuple):
    """One entry a row: object arrays of str, shape [n]."""

    decisions: NDArray[np.object_]
    """ "approve", "review" or "decline"."""
    reasons: NDArray[np.object_]
    """The reason of the rule that decided, or the threshold that did."""


def decide(contract: Policy, columns: Mapping[str, NDArray[Any]], scores: ArrayLike) -> Decisions:
    """The first rule that holds for a row decides it, otherwise its score does.

    `columns`: canonical columns [n] by name. `scores`: probabilities [n], compared as float32, the
    precision that clients are sent. A missing value satisfies no rule.
    """
    review = np.float32(contract.decision.review)
    decline = np.float32(contract.decision.decline)
    score = np.asarray(scores, dtype=np.float32)
    band = (score >= review).astype(np.intp) + (score >= decline)
    decisions = _BY_BAND[band]
    reasons = np.array(
        [
            f"score is below {review:g}",
            f"score is at least {review:g}",
            f"score is at least {decline:g}",
        ],
        dtype=object,
    )[band]
    for rule in reversed(contract.rules):
        holds = _COMPARE[rule.op](columns[rule.feature], rule.value)
        decisions[holds] = rule.decision
        reasons[holds] = rule.reason
    return Decisions(decisions, reasons)
