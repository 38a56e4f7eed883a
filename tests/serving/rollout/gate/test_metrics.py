from __future__ import annotations

from serving.rollout.gate import ActionKind, LabelCohort, Phase
from tests.serving.rollout.gate.looks import ERRORS, Run, arm, at_step, plan_of

K = ActionKind


def test_slow_answers_roll_back_by_the_latency_metric() -> None:
    latency = {"kind": "latency", "slo_seconds": 0.25, "max_rate": 0.01}
    run = at_step(plan_of(ERRORS, latency))
    for _ in range(20):
        if run.look(arm(100, slow=60), arm(900, slow=5)).kind is K.ROLL_BACK:
            break
    assert run.phase is Phase.ROLLING_BACK
    assert run.reason.startswith("latency")


SCORES = {"kind": "scores", "tolerance": 1.5}


def test_a_score_shift_past_the_tolerance_is_held_and_never_promoted() -> None:
    run = at_step(plan_of(ERRORS, SCORES, time_cap_seconds=60 * 100))
    while run.phase is not Phase.ASK:
        run.look(arm(1000, scores=(0, 0, 0, 100, 900)), arm(9000))
    assert K.ROLL_BACK not in run.kinds
    assert run.state.step == 0


def test_a_held_shift_says_what_shifted() -> None:
    run = at_step(plan_of(ERRORS, SCORES))
    for _ in range(3):
        run.look(arm(1000, scores=(0, 0, 0, 100, 900)), arm(9000))
    assert "scores of the canary are past the tolerance" in run.reason


def test_an_honest_retrain_within_the_tolerance_is_promoted_at_100_000_requests() -> None:
    run = at_step(plan_of(ERRORS, SCORES, steps=[10, 50]), requests=2000)
    looks = 0
    while run.phase is Phase.STEP and looks < 50:
        n_c = 10_000 * run.weight // 100
        part = n_c // 100
        moved = (part * 22, part * 19, part * 20, part * 18, n_c - part * 79)
        run.look(arm(n_c, scores=moved), arm(10_000 - n_c))
        looks += 1
    assert run.phase is Phase.PROMOTED
    assert sum(run.state.proofs.shifts[0].canary) <= 100_000


def test_scores_counted_in_other_buckets_prove_nothing() -> None:
    run = at_step(plan_of(ERRORS, SCORES), requests=2000)
    for _ in range(20):
        run.look(arm(1000), arm(9000), score_edges=(0.2, 0.3, 0.5, 0.7))
    assert "not proven yet: scores" in run.reason


def test_the_decision_mix_is_held_past_its_tolerance() -> None:
    run = at_step(plan_of(ERRORS, {"kind": "decisions", "tolerance": 1.5}), requests=2000)
    for _ in range(5):
        mix = {"approve": 500, "decline": 500}
        run.look(arm(1000, decisions=mix), arm(9000))
    assert "decisions of the canary are past the tolerance" in run.reason


def test_an_unseen_decision_counts_as_a_rare_one() -> None:
    run = at_step(plan_of(ERRORS, {"kind": "decisions", "tolerance": 1.5}), requests=2000)
    for _ in range(5):
        run.look(arm(1000, decisions={"approve": 200, "escalate": 800}), arm(9000))
    assert "decisions of the canary are past the tolerance" in run.reason


LABELS = {"kind": "labels", "mature_days": 7, "max_rate": 0.05}


def test_labels_are_compared_only_between_cohorts_of_equal_age() -> None:
    run = at_step(plan_of(ERRORS, LABELS))
    for _ in range(20):
        run.look(
            arm(1000, labels=(LabelCohort(8, 200, 100),)),
            arm(9000, labels=(LabelCohort(9, 200, 0),)),
        )
    assert run.state.proofs.rates[1].relative.log_e_bad == 0
    assert K.ROLL_BACK not in run.kinds


def test_labels_that_have_not_matured_are_not_counted() -> None:
    run = at_step(plan_of(ERRORS, LABELS))
    for _ in range(20):
        run.look(
            arm(1000, labels=(LabelCohort(6, 200, 200),)),
            arm(9000, labels=(LabelCohort(6, 200, 0),)),
        )
    assert run.state.proofs.rates[1].canary == (0, 0)
    assert "labels" in run.reason


def test_matured_labels_roll_back_a_canary_that_is_wrong_more_often() -> None:
    run = at_step(plan_of(ERRORS, LABELS))
    for _ in range(20):
        run.look(
            arm(1000, labels=(LabelCohort(8, 100, 30),)),
            arm(9000, labels=(LabelCohort(8, 900, 20),)),
        )
        if run.phase is Phase.ROLLING_BACK:
            break
    assert run.phase is Phase.ROLLING_BACK


def test_bursts_are_taken_for_fewer_failures_when_the_dispersion_is_estimated() -> None:
    """Every other look one cause fails ten requests, of either arm in turn."""

    def looks(dispersion: object) -> Run:
        run = at_step(plan_of(min_requests=10**6, dispersion=dispersion))
        for i in range(40):
            burst = 10 if i % 2 else 0
            run.look(arm(500, burst), arm(4500))
            if run.phase is not Phase.STEP:
                break
        return run

    assert looks(1).phase is Phase.ROLLING_BACK
    assert len(looks("estimate").actions) > 2 * len(looks(1).actions)
