from __future__ import annotations

from dataclasses import replace

import pytest

from serving.errors import DataError
from serving.rollout.gate import (
    GateState,
    Phase,
    Request,
    approved,
    begin,
    finished,
    paused,
    requested,
    with_models,
)
from tests.serving.rollout.gate.looks import CANARY, ERRORS, STABLE, Run, arm, plan_of


def test_an_intended_action_stays_written_until_it_is_finished() -> None:
    run = Run(plan_of())
    run.look()
    assert run.state.intended is not None
    run.look(canary_ready=False)
    assert run.state.intended == run.actions[0]
    assert finished(run.state).intended is None


def test_the_record_keeps_what_the_gate_does_not_read() -> None:
    state = begin(plan_of(), run="r", service="fraud", stable=STABLE, canary=CANARY)
    state = replace(state, snapshots={"pods": {"a": [1, 2]}}, tail="line\n", version=7)
    assert GateState.from_json(state.to_json()) == state


def test_the_record_of_a_run_with_all_kinds_of_evidence_reads_back() -> None:
    run = Run(
        plan_of(
            ERRORS,
            {"kind": "scores", "tolerance": 1.5},
            {"kind": "decisions", "tolerance": 1.5},
            dispersion="estimate",
        )
    )
    for canary in (0, 0, 1000, 1000):
        run.look(arm(canary, canary // 500), arm(9000, 20))
    assert run.state.proofs.shifts[0].evidence is not None
    assert GateState.from_json(run.state.to_json()) == run.state


@pytest.mark.parametrize("broken", ["format", "phase", "proofs", "orders"])
def test_what_is_no_record_is_refused_by_name(broken: str) -> None:
    state = begin(plan_of(), run="r", service="fraud", stable=STABLE, canary=CANARY)
    with pytest.raises(DataError, match="record.json"):
        GateState.from_json({**state.to_json(), broken: "?"}, "record.json")
    found = state.to_json()
    del found[broken]
    with pytest.raises(DataError, match="record.json"):
        GateState.from_json(found, "record.json")


def test_only_a_step_that_asks_for_approval_can_be_approved() -> None:
    plan = plan_of(approvals=[25, 100])
    state = begin(plan, run="r", service="fraud", stable=STABLE, canary=CANARY)
    with pytest.raises(DataError, match="50 % asks for no approval; 25 %, 100 % does"):
        approved(state, plan, 50)
    assert approved(approved(state, plan, 100), plan, 25).orders.approvals == (25, 100)


def test_another_model_takes_the_approvals_back() -> None:
    plan = plan_of(approvals=[25])
    state = begin(plan, run="r", service="fraud", stable=STABLE, canary=CANARY)
    state = paused(approved(state, plan, 25))
    again = with_models(state, plan, STABLE, replace(CANARY, bundle="d" * 64))
    assert again.orders.approvals == ()
    assert again.orders.paused


def test_a_request_that_comes_too_late_is_refused() -> None:
    run = Run(plan_of())
    run.until(Phase.PROMOTED)
    with pytest.raises(DataError, match="nothing to promote"):
        requested(run.state, Request.PROMOTE)
    requested(run.state, Request.ABORT)
    run.until(Phase.DONE)
    for request in Request:
        with pytest.raises(DataError, match="start another run"):
            requested(run.state, request)
