from __future__ import annotations

import pytest

from serving.errors import UsageError
from serving.rollout.gate import ArmModel, Phase, Scenario, compare, explain, simulate
from serving.rollout.gate.explain import clean_requests
from tests.serving.rollout.gate.looks import ERRORS, plan_of

HEALTHY = ArmModel(error_rate=0.005)
TWICE = ArmModel(error_rate=0.01)
STEPS = [10, 20, 30, 40, 50]


def test_the_same_seed_gives_the_same_runs() -> None:
    plan, scenario = plan_of(steps=STEPS), Scenario(20, HEALTHY, TWICE)
    first, again, other = (simulate(plan, scenario, runs=3, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_both_error_rates_stay_within_their_bounds() -> None:
    """Bounds of 5 % over 150 runs: 15 is beyond 99.9 % of the luck."""
    plan = plan_of(steps=STEPS, time_cap_seconds=10**6, look_seconds=120)
    good = simulate(plan, Scenario(20, HEALTHY, HEALTHY), runs=150, seed=5)
    bad = simulate(plan, Scenario(20, HEALTHY, TWICE), runs=150, seed=6)
    assert sum(outcome.phase is Phase.ROLLING_BACK for outcome in good) < 15
    assert sum(outcome.phase is Phase.PROMOTED for outcome in bad) < 15
    assert sum(outcome.phase is Phase.PROMOTED for outcome in good) > 135


def test_two_plans_are_compared_on_the_same_luck() -> None:
    eager, careful = plan_of(steps=STEPS), plan_of(steps=STEPS, min_seconds=1800)
    found = compare(
        {"eager": eager, "careful": careful, "same": eager},
        {"healthy": Scenario(200, HEALTHY, HEALTHY), "broken": Scenario(200, HEALTHY, ArmModel(1))},
        runs=10,
    )
    assert found["eager"] == found["same"]
    assert found["careful"]["healthy"].seconds > 5 * 1800 > found["eager"]["healthy"].seconds
    assert found["careful"]["broken"].rolled_back == 1


def test_traffic_that_stops_is_left_to_a_person() -> None:
    plan = plan_of(time_cap_seconds=7200)
    scenario = Scenario(20, HEALTHY, HEALTHY, traffic_stops_after=200)
    assert {o.phase for o in simulate(plan, scenario, runs=5)} == {Phase.ASK}


def test_a_score_shift_is_never_promoted() -> None:
    plan = plan_of(ERRORS, {"kind": "scores", "tolerance": 1.5}, time_cap_seconds=7200)
    scenario = Scenario(20, HEALTHY, ArmModel(0.005, score_shift=1.0))
    assert {o.phase for o in simulate(plan, scenario, runs=5)} == {Phase.ASK}


def test_labels_decide_only_after_they_matured() -> None:
    labels = {"kind": "labels", "mature_days": 1, "max_rate": 0.05}
    plan = plan_of(ERRORS, labels, look_seconds=3600, time_cap_seconds=86_400 * 20)
    worse = Scenario(1, ArmModel(wrong_rate=0.02), ArmModel(wrong_rate=0.1))
    good = Scenario(1, ArmModel(wrong_rate=0.02), ArmModel(wrong_rate=0.02))
    for scenario, phase in ((worse, Phase.ROLLING_BACK), (good, Phase.PROMOTED)):
        outcomes = simulate(plan, scenario, runs=5)
        assert {o.phase for o in outcomes} == {phase}
        assert min(o.seconds for o in outcomes) > 86_400


def test_a_scenario_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="traffic"):
        Scenario(0)
    with pytest.raises(UsageError, match="burst"):
        Scenario(1, burst=0.5)


def test_about_300_clean_requests_prove_a_rate_below_one_percent() -> None:
    assert 300 <= clean_requests(0.01, 0.05) <= 350


def test_the_plan_is_explained_with_requests_and_time_for_both_canaries() -> None:
    text = explain(plan_of(approvals=[50]), 200, 0.005)
    assert "0 % -> 10 % -> 25 % -> 50 % -> 100 % -> promoted" in text
    assert "341 canary requests without one prove it" in text
    assert "A person must approve 50 %" in text
    good, bad = (line for line in text.splitlines() if line.startswith("- A canary"))
    assert "promoted in 20 of 20" in good
    assert "min and " in good
    assert "rolled back in 20 of 20" in bad


def test_a_stable_without_failures_is_explained_by_the_slo() -> None:
    text = explain(plan_of(), 50, 0.0)
    assert "fails at twice the SLO's rate: rolled back in" in text
