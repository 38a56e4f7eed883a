from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.errors import GateError
from serving.rollout.gate import (
    AuditLog,
    Entry,
    Phase,
    finished,
    paused,
    read,
    replay,
    with_models,
)
from serving.rollout.gate.audit import GENESIS
from tests.serving.rollout.gate.looks import CANARY, ERRORS, STABLE, Run, arm, plan_of


def test_a_whole_run_is_decided_again_from_its_log(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    run = Run(plan_of(ERRORS, {"kind": "scores", "tolerance": 1.5}), AuditLog(path))
    run.split(1000)
    run.state = paused(run.state)
    run.split(1000)
    run.state = finished(paused(run.state, False))
    run.until(Phase.DONE)
    again = replay(read(path))
    assert again.different == ()
    assert again.requests == 1000 * (len(run.actions))
    assert again.state is not None
    assert again.state.phase is Phase.DONE


def test_a_change_of_plan_and_of_model_is_replayed(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    run = Run(plan_of(), AuditLog(path))
    assert run.log is not None
    run.until(Phase.FULL)
    run.plan = plan_of(alpha=0.01)
    run.log.append(run.log.planned(run.plan))
    run.until(Phase.STEP)
    other = replace(CANARY, bundle="c" * 64)
    run.state = with_models(run.state, run.plan, STABLE, other)
    run.until(Phase.PROMOTED)
    again = replay(read(path))
    assert again.different == ()
    assert again.state is not None
    assert again.state.canary == other


def test_another_plan_shows_what_it_would_have_said(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    run = Run(plan_of(), AuditLog(path))
    run.until(Phase.PROMOTED)
    careful = replay(read(path), plan_of(min_requests=10**9))
    assert careful.state is not None
    assert careful.state.phase is Phase.STEP
    assert careful.different != ()
    assert replay(read(path), run.plan).different == ()


def test_a_decision_that_does_not_follow_from_its_counts_is_named(tmp_path: Path) -> None:
    run = Run(plan_of(), AuditLog(tmp_path / "audit.jsonl"))
    run.until(Phase.PROMOTED)
    entries = read(tmp_path / "audit.jsonl")
    decision = {**entries[3].body["decision"], "action": {"kind": "promote", "weight": None}}
    entries[3] = replace(entries[3], body={**entries[3].body, "decision": decision})
    assert [step.number for step in replay(entries).different] == [4]


def test_a_log_without_its_run_is_refused(tmp_path: Path) -> None:
    run = Run(plan_of(), AuditLog(tmp_path / "audit.jsonl"))
    run.split(100)
    with pytest.raises(GateError, match="no run has begun"):
        replay(read(tmp_path / "audit.jsonl")[1:])
    with pytest.raises(GateError, match="'song' is unknown"):
        replay([*read(tmp_path / "audit.jsonl"), Entry(3, "song", {}, GENESIS)])


def test_ten_million_requests_replay_within_a_minute(tmp_path: Path) -> None:
    """A look a minute at 400 requests/s: 7 hours, all metrics but labels."""
    path = tmp_path / "audit.jsonl"
    plan = plan_of(
        ERRORS,
        {"kind": "latency", "slo_seconds": 0.25, "max_rate": 0.01},
        {"kind": "scores", "tolerance": 1.5},
        {"kind": "decisions", "tolerance": 1.5},
        min_requests=10**9,
        dispersion="estimate",
    )
    run = Run(plan, AuditLog(path))
    random = np.random.default_rng(0)
    for _ in range(420):
        n_c = 24_000 * run.weight // 100
        canary, stable = (
            arm(n, int(random.binomial(n, 0.005)), slow=int(random.binomial(n, 0.005)))
            for n in (n_c, 24_000 - n_c)
        )
        run.look(canary, stable)
    entries = read(path)
    began = time.monotonic()
    again = replay(entries)
    assert time.monotonic() - began < 60
    assert again.requests > 10_000_000
    assert again.different == ()
