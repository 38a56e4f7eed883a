from __future__ import annotations

from dataclasses import replace

import pytest

from serving.rollout.gate import (
    ENDED,
    Action,
    ActionKind,
    Model,
    Phase,
    Request,
    approved,
    requested,
    with_models,
)
from tests.serving.rollout.gate.looks import CANARY, STABLE, Run, arm, at_step, plan_of

K = ActionKind


def test_leads_a_clean_canary_through_every_step_to_the_end() -> None:
    run = Run(plan_of())
    assert run.until(Phase.DONE) is Phase.DONE
    moves = [(a.kind, a.weight) for a in run.actions if a.kind is not K.HOLD]
    assert moves == [
        (K.SET_WEIGHT, 0),
        (K.SET_WEIGHT, 10),
        (K.SET_WEIGHT, 25),
        (K.SET_WEIGHT, 50),
        (K.SET_WEIGHT, 100),
        (K.PROMOTE, None),
        (K.CLEAN_UP, None),
    ]


def test_promotes_a_canary_without_any_failure_on_the_slo_alone() -> None:
    run = at_step(plan_of(steps=[10]))
    while run.phase is Phase.STEP:
        run.look(arm(100), arm(900))
    assert run.kinds[-1] is K.PROMOTE
    # The last step asks for a mean of both proofs: ln 26.7 instead of ln 20.
    assert 300 < run.state.proofs.rates[0].canary[0] <= 500


def test_promotes_a_canary_as_good_as_a_stable_that_breaks_the_slo_itself() -> None:
    run = at_step(plan_of(steps=[10, 50]), requests=10_000, rate=0.03, canary_rate=0.03)
    assert run.until(Phase.PROMOTED, Phase.ASK, requests=10_000, rate=0.03, canary_rate=0.03) is (
        Phase.PROMOTED
    )


def test_rolls_back_a_canary_that_fails_more_than_stable() -> None:
    run = at_step(plan_of())
    assert run.until(Phase.ROLLING_BACK, canary_rate=0.1, rate=0.005) is Phase.ROLLING_BACK
    assert "errors: " in run.reason
    assert "worse" in run.reason


def test_rolls_back_when_the_canary_fails_after_a_shift() -> None:
    """What a canary earned at 10 % does not shield it once it breaks at 25 %."""
    run = at_step(plan_of(min_seconds=12_000))
    while run.weight == 10:
        run.split(10_000, canary_rate=0.005, rate=0.005)
    assert run.weight == 25
    proof = run.state.proofs.rates[0]
    before = proof.relative.log_e_bad
    assert before < -3
    looks = len(run.actions)
    run.until(Phase.ROLLING_BACK, looks=10, requests=10_000, canary_rate=0.01, rate=0.005)
    assert run.phase is Phase.ROLLING_BACK
    assert len(run.actions) - looks <= 4


def test_takes_no_step_while_the_newest_evidence_leans_against_the_canary() -> None:
    run = at_step(plan_of(min_seconds=12_000))
    while run.weight == 10:
        run.split(10_000, canary_rate=0.005, rate=0.005)
    run.look(arm(2500, 25), arm(7500, 38))
    assert run.state.proofs.rates[0].relative.log_e_good > 3
    assert run.state.proofs.rates[0].since_step > 1.5
    assert "lean against the canary" in run.reason


def test_does_not_blame_the_canary_for_what_both_arms_suffer() -> None:
    run = at_step(plan_of(steps=[10, 50]))
    for _ in range(50):
        run.split(10_000, canary_rate=0.05, rate=0.05)
    assert K.ROLL_BACK not in run.kinds


def test_rolls_back_a_canary_that_fails_once_stable_has_no_traffic() -> None:
    run = at_step(plan_of())
    run.until(Phase.FULL)
    assert run.until(Phase.ROLLING_BACK, looks=2, canary_rate=0.5) is Phase.ROLLING_BACK


def test_rolls_back_a_promoted_canary_that_fails_while_the_old_stable_is_warm() -> None:
    run = at_step(plan_of(cleanup_seconds=6000))
    run.until(Phase.PROMOTED)
    run.split(10)
    assert run.split(1000, canary_rate=0.5).kind is K.ROLL_BACK


def test_asks_at_the_time_cap_for_a_canary_never_within_its_slo_at_100() -> None:
    run = at_step(plan_of(time_cap_seconds=6000), requests=10_000, rate=0.015)
    run.until(Phase.ASK, requests=100_000, canary_rate=0.015, rate=0.015)
    assert run.phase is Phase.ASK
    assert "person" in run.reason
    assert run.weight == 0


@pytest.mark.parametrize("phase", [Phase.STEP, Phase.FULL, Phase.PROMOTED])
def test_rolls_back_at_once_when_the_canary_is_not_ready(phase: Phase) -> None:
    run = at_step(plan_of(cleanup_seconds=6000))
    run.until(phase)
    assert run.look(arm(10), arm(10), canary_ready=False).kind is K.ROLL_BACK


def test_rolls_back_a_crash_loop_even_in_the_dark() -> None:
    run = Run(plan_of(max_restarts=2))
    run.look()
    assert run.look(canary_ready=False, canary_restarts=2).kind is K.HOLD
    assert run.look(canary_ready=False, canary_restarts=3).kind is K.ROLL_BACK
    assert "3 times" in run.reason


def test_waits_in_the_dark_until_the_canary_is_ready() -> None:
    run = Run(plan_of())
    run.look()
    for _ in range(5):
        assert run.look(canary_ready=False).kind is K.HOLD
    assert run.look() == Action(K.SET_WEIGHT, 10)


def test_a_rollback_removes_nothing_before_the_data_plane_shows_zero() -> None:
    run = at_step(plan_of(remove_after_rollback=True))
    run.look(canary_ready=False)
    assert run.look(weight=10).kind is K.ROLL_BACK
    assert "10 % still" in run.reason
    assert run.look(weight=None).kind is K.ROLL_BACK
    assert run.look(weight=0).kind is K.CLEAN_UP
    assert run.phase is Phase.ROLLED_BACK


def test_a_rolled_back_canary_stays_dark_unless_the_plan_removes_it() -> None:
    run = at_step(plan_of())
    run.look(canary_ready=False)
    assert run.look(weight=0).kind is K.HOLD
    assert run.phase is Phase.ROLLED_BACK


def test_never_promotes_without_data() -> None:
    run = at_step(plan_of(min_requests=0))
    for _ in range(300):
        assert run.look().kind is K.HOLD
        assert run.look(arm(0), arm(0)).kind is K.HOLD
    assert run.phase is Phase.STEP


@pytest.mark.parametrize("missing", ["canary", "stable"])
def test_holds_while_an_arm_has_no_data(missing: str) -> None:
    run = at_step(plan_of())
    for _ in range(20):
        counts = {"canary": arm(100), "stable": arm(900), missing: None}
        assert run.look(**counts).kind is K.HOLD
        assert f"no data of {'the canary' if missing == 'canary' else 'stable'}" in run.reason


def test_holds_at_100_once_the_traffic_stops() -> None:
    run = at_step(plan_of(min_requests=0, min_seconds=120))
    run.until(Phase.FULL)
    for _ in range(20):
        assert run.look(arm(0), None).kind is K.HOLD
    assert run.phase is Phase.FULL


def test_stays_at_a_step_for_the_minimum_time_and_requests() -> None:
    run = at_step(plan_of(min_seconds=600, min_requests=2000))
    run.split(100_000)
    for _ in range(9):
        run.split(100_000)
        assert run.state.step == 0
    run.split(100_000)
    run.split(100_000)
    assert run.state.step == 1
    few = at_step(plan_of(min_requests=2000))
    for _ in range(10):
        few.split(1000)
    assert few.state.step == 0
    assert "of 2000 canary requests" in few.reason


def test_the_minimum_time_starts_when_the_data_plane_gives_the_share() -> None:
    run = at_step(plan_of(min_seconds=120))
    for _ in range(20):
        run.look(arm(1000), arm(9000), weight=0)
        assert "gives 0 % and not 10 %" in run.reason
    run.look(arm(1000), arm(9000), weight=10)
    assert "0 s of 120 s" in run.reason


def test_an_unknown_weight_holds_nothing_back() -> None:
    run = at_step(plan_of())
    while run.state.step == 0:
        run.look(arm(1000), arm(9000), weight=None)
    assert run.state.step == 1


def test_holds_while_stable_is_not_ready() -> None:
    run = at_step(plan_of())
    for _ in range(20):
        assert run.look(arm(1000), arm(9000), stable_ready=False).kind is K.HOLD
    assert "stable is not ready" in run.reason


def test_waits_for_the_approval_of_a_step_and_names_it() -> None:
    plan = plan_of(approvals=[25])
    run = at_step(plan)
    run.until(Phase.WAITING_APPROVAL)
    assert "25 % waits for a person's approval" in run.reason
    for _ in range(5):
        run.split(1000)
    assert run.state.step == 0
    run.state = approved(run.state, plan, 25)
    assert run.split(1000) == Action(K.SET_WEIGHT, 25)


def test_a_canary_waiting_for_approval_is_still_rolled_back() -> None:
    run = at_step(plan_of(approvals=[25]))
    run.until(Phase.WAITING_APPROVAL)
    assert run.until(Phase.ROLLING_BACK, looks=20, canary_rate=0.5) is Phase.ROLLING_BACK


def test_a_pause_holds_and_does_not_use_up_the_time() -> None:
    run = at_step(plan_of(time_cap_seconds=1200))
    run.order(paused=True)
    for _ in range(100):
        assert run.split(1000).kind is K.HOLD
    assert "paused" in run.reason
    run.order(paused=False)
    run.split(1000)
    assert run.phase is not Phase.ASK


def test_a_paused_run_is_still_rolled_back_on_hard_evidence() -> None:
    run = at_step(plan_of())
    run.order(paused=True)
    run.split(1000)
    assert "would still be rolled back" in run.reason
    assert run.until(Phase.ROLLING_BACK, looks=5, canary_rate=0.5) is Phase.ROLLING_BACK


def test_a_person_may_promote_what_is_not_proven() -> None:
    run = at_step(plan_of())
    run.state = requested(run.state, Request.PROMOTE)
    assert run.split(10).kind is K.PROMOTE
    assert run.state.orders.request is None


def test_a_person_cannot_promote_a_canary_that_is_down() -> None:
    run = at_step(plan_of())
    run.state = requested(run.state, Request.PROMOTE)
    assert run.look(canary_ready=False).kind is K.ROLL_BACK


def test_an_abort_rolls_back_from_any_phase_that_can() -> None:
    for phase in (Phase.PENDING, Phase.DARK, Phase.STEP, Phase.FULL, Phase.PROMOTED):
        run = Run(plan_of(cleanup_seconds=600))
        run.until(phase)
        run.state = requested(run.state, Request.ABORT)
        assert run.split(10).kind is K.ROLL_BACK, phase


def test_at_the_cap_a_person_promotes_or_aborts() -> None:
    for request, kind in ((Request.PROMOTE, K.PROMOTE), (Request.ABORT, K.ROLL_BACK)):
        run = at_step(plan_of(time_cap_seconds=1200, min_requests=10**6))
        run.until(Phase.ASK)
        assert run.look().kind is K.HOLD
        run.state = requested(run.state, request)
        assert run.look().kind is kind


def test_asks_again_for_zero_while_the_data_plane_lags_at_the_cap() -> None:
    run = at_step(plan_of(time_cap_seconds=1200, min_requests=10**6))
    run.until(Phase.ASK)
    assert run.look(weight=10).kind is K.ASK


def test_another_plan_begins_again_in_the_dark() -> None:
    run = at_step(plan_of())
    run.until(Phase.FULL)
    run.plan = plan_of(alpha=0.01)
    assert run.look(arm(100), arm(0)) == Action(K.SET_WEIGHT, 0)
    assert run.phase is Phase.DARK
    assert run.state.proofs.rates[0].canary == (0, 0)
    assert run.until(Phase.DONE) is Phase.DONE


def test_another_model_begins_again_in_the_dark() -> None:
    plan = plan_of()
    run = at_step(plan)
    run.until(Phase.FULL)
    other = Model("v2", "pvc://seatrial-bundles/fraud/v3", "c" * 64)
    run.state = with_models(run.state, plan, STABLE, other)
    assert (run.phase, run.state.canary) == (Phase.PENDING, other)
    assert run.state.proofs.rates[0].canary == (0, 0)
    assert with_models(run.state, plan, STABLE, other) is run.state


def test_a_promotion_does_not_look_like_another_model() -> None:
    plan = plan_of(cleanup_seconds=600)
    run = at_step(plan)
    run.until(Phase.PROMOTED)
    assert with_models(run.state, plan, CANARY, STABLE) is run.state


def test_rejects_an_interval_that_overlaps_the_last_one() -> None:
    run = at_step(plan_of())
    run.split(1000)
    counted = run.state.proofs
    again = run.look(arm(100, 50), arm(900), start=run.now - 30, end=run.now + 30)
    assert again.kind is K.HOLD
    assert "overlaps the last one by 30 s" in run.reason
    assert run.state.proofs == counted


def test_rejects_a_clock_that_went_back() -> None:
    run = at_step(plan_of())
    run.split(1000)
    counted = run.state.proofs
    run.look(arm(100, 50), arm(900), start=10.0, end=70.0)
    assert "the clock went back" in run.reason
    run.look(arm(100, 50), arm(900), start=run.now + 60, end=run.now)
    assert "ends 60 s before it starts" in run.reason
    assert run.state.proofs == counted


def test_a_canary_that_is_down_is_rolled_back_whatever_the_clock_says() -> None:
    run = at_step(plan_of())
    run.split(1000)
    assert run.look(start=10.0, end=70.0, canary_ready=False).kind is K.ROLL_BACK


def test_an_interval_read_late_is_counted_from_where_it_began() -> None:
    """A pod that does not answer leaves looks without counts; its interval stays open."""
    run = at_step(plan_of())
    run.split(1000)
    start = run.now
    run.look(start=start, end=start + 60)
    run.look(start=start, end=start + 120)
    run.look(arm(200), arm(1800), start=start, end=start + 180)
    assert "rejected" not in run.reason
    assert run.state.proofs.rates[0].canary[0] == 300


@pytest.mark.parametrize("counts", [arm(-1), arm(5, 6), replace(arm(5), slow=9)])
def test_rejects_counts_that_contradict_themselves(counts: object) -> None:
    run = at_step(plan_of())
    before = run.state.proofs
    run.look(counts, arm(100))  # type: ignore[arg-type]
    assert "rejected" in run.reason
    assert run.state.proofs == before


def test_an_ended_run_does_nothing_more() -> None:
    run = Run(plan_of())
    run.until(Phase.DONE)
    assert run.look(canary_ready=False).kind is K.HOLD
    assert run.phase in ENDED
