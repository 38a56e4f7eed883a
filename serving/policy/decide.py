"""Hard rules on raw features first, then the contract's thresholds on the score."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

DECISIONS = ("approve", "review", "decline")
UNDECIDED = -1
"""In what `Decider.rules` returns: no rule holds, the score decides."""
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


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


class Table(Protocol):
    """Canonical columns [n] by name: a mapping, or what can be asked like one."""

    def __getitem__(self, name: str, /) -> NDArray[Any]: ...


class Decisions(NamedTuple):
    """One entry a row: object arrays of str, shape [n]."""

    decisions: NDArray[np.object_]
    """ "approve", "review" or "decline"."""
    reasons: NDArray[np.object_]
    """The reason of the rule that decided, or the threshold that did."""


class Decider:
    """A policy made ready to decide row after row.

    An outcome is a position in `decisions` and `reasons`: one for each of the score's three bands,
    then one for each rule.
    """

    def __init__(self, policy: Policy) -> None:
        # Scores are compared as float32, the precision that clients are sent.
        self.review = float(np.float32(policy.decision.review))
        self.decline = float(np.float32(policy.decision.decline))
        self.decisions = (*DECISIONS, *(rule.decision for rule in policy.rules))
        self.reasons = (
            f"score is below {policy.decision.review:g}",
            f"score is at least {policy.decision.review:g}",
            f"score is at least {policy.decision.decline:g}",
            *(rule.reason for rule in policy.rules),
        )
        self.features = tuple(rule.feature for rule in policy.rules)
        """The features that rules look at, one a rule."""
        self._rules = [
            (len(DECISIONS) + at, rule.feature, _COMPARE[rule.op], rule.value)
            for at, rule in enumerate(policy.rules)
        ]

    def rules(self, columns: Table) -> NDArray[np.intp] | None:
        """The outcome [n] of the first rule that holds for each row, UNDECIDED for none.

        None when no rule holds for any row. A missing value satisfies no rule.
        """
        outcomes: NDArray[np.intp] | None = None
        for outcome, feature, compare, value in reversed(self._rules):
            holds = compare(columns[feature], value)
            # Bytes are searched faster than numpy reduces an array of one row.
            if b"\1" not in holds.tobytes():
                continue
            if outcomes is None:
                outcomes = np.full(len(holds), UNDECIDED, dtype=np.intp)
            outcomes[holds] = outcome
        return outcomes

    def band(self, score: float) -> int:
        """The outcome of one score."""
        return (score >= self.review) + (score >= self.decline)

    def bands(self, scores: ArrayLike) -> NDArray[np.intp]:
        """The outcomes of scores [n]."""
        score = np.asarray(scores, dtype=np.float32)
        return (score >= self.review).astype(np.intp) + (score >= self.decline)


def decide(contract: Policy, columns: Mapping[str, NDArray[Any]], scores: ArrayLike) -> Decisions:
    """The first rule that holds for a row decides it, otherwise its score does.

    `columns`: canonical columns [n] by name. `scores`: probabilities [n]. A missing value satisfies
    no rule.
    """
    decider = Decider(contract)
    outcomes = decider.bands(scores)
    ruled = decider.rules(columns)
    if ruled is not None:
        outcomes = np.where(ruled == UNDECIDED, outcomes, ruled)
    return Decisions(
        np.array(decider.decisions, dtype=object)[outcomes],
        np.array(decider.reasons, dtype=object)[outcomes],
    )
