from __future__ import annotations

from dataclasses import replace

from serving.drift.detector import TestResult
from serving.drift.episode import Episode

CLEAN = TestResult("amount", "feature", "values", "ks", 0.5, 0.03)
MOVED = replace(CLEAN, p_value=1e-9, effect=0.3)
SCORE = TestResult("score", "score", "values", "ks", 0.4, 0.02)


def transitions(episode: Episode, *windows: TestResult) -> list[str | None]:
    return [episode.step([result, SCORE]).transition for result in windows]


def test_an_episode_opens_once_and_closes_once() -> None:
    found = transitions(Episode(0.05, {}), CLEAN, MOVED, MOVED, MOVED, CLEAN, CLEAN, MOVED)
    assert found == [None, "opened", None, None, "closed", None, "opened"]


def test_later_windows_need_stronger_evidence_to_open() -> None:
    weak = replace(MOVED, p_value=0.01)
    assert transitions(Episode(0.05, {}), weak) == ["opened"]
    assert transitions(Episode(0.05, {}), *[CLEAN] * 5, weak) == [None] * 6


def test_what_all_windows_spend_stays_within_the_p_value() -> None:
    episode = Episode(0.05, {})
    spent = sum(episode.step([CLEAN, SCORE]).threshold * 2 for _ in range(2000))
    assert 0.0499 < spent < 0.05


def test_an_open_episode_lasts_while_windows_drift_at_the_p_value_itself() -> None:
    lasting = replace(MOVED, p_value=0.02)
    assert transitions(Episode(0.05, {}), MOVED, *[lasting] * 5) == ["opened"] + [None] * 5


def test_an_effect_that_the_training_period_shows_itself_is_not_drift() -> None:
    usual = Episode(0.05, {"amount": {"values": 0.25}})
    assert transitions(usual, MOVED) == [None]
    assert transitions(usual, replace(MOVED, effect=0.38)) == ["opened"]


def test_a_column_that_moves_much_by_itself_can_still_drift() -> None:
    usual = Episode(0.05, {"amount": {"values": 0.8}})
    assert transitions(usual, replace(MOVED, effect=0.89)) == [None]
    assert transitions(usual, replace(MOVED, effect=0.95)) == ["opened"]


def test_results_are_ranked_by_effect_and_drifted_ones_come_first() -> None:
    most = replace(MOVED, column="age", effect=0.6)
    large_but_usual = replace(MOVED, column="hour", effect=0.9)
    episode = Episode(0.05, {"hour": {"values": 0.8}})
    verdict = episode.step([SCORE, MOVED, large_but_usual, most])
    assert [r.column for r in verdict.results][:2] == ["age", "amount"]
    assert verdict.drifted == {("age", "values"), ("amount", "values")}


def test_opening_names_also_what_drifts_at_the_p_value_itself() -> None:
    weaker = replace(MOVED, column="age", p_value=0.01)
    episode = Episode(0.05, {})
    for _ in range(10):
        episode.step([CLEAN, CLEAN])
    assert episode.step([MOVED, weaker]).drifted == {("amount", "values"), ("age", "values")}
