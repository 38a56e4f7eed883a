from __future__ import annotations

from dataclasses import replace

from serving.drift.detector import TestResult
from serving.drift.spending import Spending

CLEAN = TestResult("amount", "feature", "values", "ks", 0.5, 0.03)
MOVED = replace(CLEAN, p_value=1e-9, effect=0.3)
SCORE = TestResult("score", "score", "values", "ks", 0.4, 0.02)


def test_later_windows_need_stronger_evidence_to_open() -> None:
    weak = replace(MOVED, p_value=0.01)
    assert Spending(0.05, {}).judge([weak, SCORE]).opens
    later = Spending(0.05, {})
    for _ in range(5):
        later.judge([CLEAN, SCORE])
    verdict = later.judge([weak, SCORE])
    assert not verdict.opens
    assert verdict.drifted == {("amount", "values")}


def test_what_all_windows_spend_stays_within_the_p_value() -> None:
    spending = Spending(0.05, {})
    spent = sum(spending.judge([CLEAN, SCORE]).threshold * 2 for _ in range(2000))
    assert 0.0499 < spent < 0.05


def test_explaining_spends_nothing() -> None:
    spending = Spending(0.05, {})
    assert spending.explain([MOVED, SCORE]).drifted == {("amount", "values")}
    assert spending.judge([CLEAN, SCORE]).window == 1


def test_an_effect_that_the_training_period_shows_itself_is_not_drift() -> None:
    usual = {"amount": {"values": 0.25}}
    assert not Spending(0.05, usual).judge([MOVED, SCORE]).opens  # type: ignore[arg-type]
    larger = replace(MOVED, effect=0.38)
    assert Spending(0.05, usual).judge([larger, SCORE]).opens  # type: ignore[arg-type]


def test_a_column_that_moves_much_by_itself_can_still_drift() -> None:
    usual = {"amount": {"values": 0.8}}
    judged = [
        Spending(0.05, usual).judge([replace(MOVED, effect=effect)]).opens  # type: ignore[arg-type]
        for effect in (0.89, 0.95)
    ]
    assert judged == [False, True]


def test_results_are_ranked_by_effect_and_drifted_ones_come_first() -> None:
    most = replace(MOVED, column="age", effect=0.6)
    large_but_usual = replace(MOVED, column="hour", effect=0.9)
    spending = Spending(0.05, {"hour": {"values": 0.8}})
    verdict = spending.judge([SCORE, MOVED, large_but_usual, most])
    assert [r.column for r in verdict.results][:2] == ["age", "amount"]
    assert verdict.drifted == {("age", "values"), ("amount", "values")}
