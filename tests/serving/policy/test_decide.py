"""Rules first, in their order, then thresholds; the same for one row and for many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving.bundle import Contract
from serving.policy import DECISIONS, decide
from tests.support.tiny import CONTRACT, rows


def contract(*rules: dict[str, Any], review: float = 0.3, decline: float = 0.8) -> Contract:
    decision = {"review": review, "decline": decline}
    return Contract.model_validate({**CONTRACT, "rules": rules, "decision": decision})


def rule(feature: str, op: str, value: float, decision: str, reason: str) -> dict[str, Any]:
    return {"feature": feature, "op": op, "value": value, "decision": decision, "reason": reason}


def test_thresholds_include_their_own_value() -> None:
    scores = [0.0, 0.29999, 0.3, 0.79999, 0.8, 1.0]
    decisions, reasons = decide(contract(), rows(6), scores)
    assert decisions.tolist() == ["approve", "approve", "review", "review", "decline", "decline"]
    assert reasons[0] == "score is below 0.3"
    assert reasons[5] == "score is at least 0.8"


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7, 0.9])
def test_float32_and_float64_scores_of_a_threshold_decide_alike(threshold: float) -> None:
    made = contract(review=threshold, decline=threshold)
    for kind in (np.float32, np.float64):
        assert decide(made, rows(1), np.array([threshold], dtype=kind)).decisions[0] == "decline"


def test_equal_thresholds_leave_no_review() -> None:
    scores = np.linspace(0, 1, 101)
    decisions = decide(contract(review=0.5, decline=0.5), rows(101), scores).decisions
    assert set(decisions) == {"approve", "decline"}


def test_a_rule_overrides_the_score_with_its_reason() -> None:
    columns = rows(3)
    columns["amount"][:] = [10.0, 5000.0, 5001.0]
    made = contract(rule("amount", ">", 5000, "decline", "over the limit"))
    decisions, reasons = decide(made, columns, [0.1, 0.1, 0.1])
    assert decisions.tolist() == ["approve", "approve", "decline"]
    assert reasons[2] == "over the limit"


def test_the_first_rule_that_holds_wins() -> None:
    columns = rows(1)
    columns["amount"][:] = 9000.0
    first = rule("amount", ">", 5000, "review", "first")
    second = rule("amount", ">", 100, "decline", "second")
    assert decide(contract(first, second), columns, [0.0]).reasons[0] == "first"
    assert decide(contract(second, first), columns, [0.0]).reasons[0] == "second"


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("<", ["decline", "approve", "approve"]),
        ("<=", ["decline", "decline", "approve"]),
        (">", ["approve", "approve", "decline"]),
        (">=", ["approve", "decline", "decline"]),
    ],
)
def test_every_comparison(op: str, expected: list[str]) -> None:
    columns = rows(3)
    columns["visits"][:] = [1, 2, 3]
    made = contract(rule("visits", op, 2, "decline", "visits"))
    assert decide(made, columns, np.zeros(3)).decisions.tolist() == expected


@pytest.mark.parametrize("op", ["<", "<=", ">", ">="])
def test_a_missing_value_satisfies_no_rule(op: str) -> None:
    columns = rows(1)
    columns["age"][:] = np.nan
    made = contract(rule("age", op, 40, "decline", "age"))
    assert decide(made, columns, [0.0]).decisions[0] == "approve"


def test_many_rows_decide_as_each_does_alone() -> None:
    made = contract(
        rule("amount", ">", 8000, "decline", "large"), rule("visits", "<", 3, "review", "new")
    )
    columns = rows(200)
    scores = np.random.default_rng(1).random(200, dtype=np.float32)
    decisions, reasons = decide(made, columns, scores)
    assert set(decisions) == set(DECISIONS)
    for row in range(200):
        alone = decide(
            made, {k: v[row : row + 1] for k, v in columns.items()}, scores[row : row + 1]
        )
        assert (alone.decisions[0], alone.reasons[0]) == (decisions[row], reasons[row])


def test_no_rows_give_no_decisions() -> None:
    assert decide(contract(), rows(0), []).decisions.tolist() == []
