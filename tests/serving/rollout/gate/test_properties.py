from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.rollout.gate import (
    ActionKind,
    ArmCounts,
    AuditLog,
    GateState,
    Observation,
    Phase,
    read,
    replay,
)
from tests.serving.rollout.gate.looks import EDGES, ERRORS, Run, arm, plan_of

K = ActionKind
SCORES = {"kind": "scores", "tolerance": 1.5}
PLAN = plan_of(
    ERRORS,
    SCORES,
    min_requests=0,
    steps=[10, 50, 100],
    approvals=[50],
    max_restarts=1,
    remove_after_rollback=True,
    time_cap_seconds=3600,
    dispersion="estimate",
)
QUICK = settings(max_examples=60, deadline=None)


@st.composite
def counts(draw: st.DrawFn) -> ArmCounts:
    requests = draw(st.integers(0, 3000))
    return arm(requests, draw(st.integers(0, min(requests, draw(st.sampled_from([0, 5, 3000]))))))


@st.composite
def looks(draw: st.DrawFn) -> dict[str, object]:
    """The fields of one look that may differ from a quiet one, and what people do before it."""
    return {
        "canary": draw(st.none() | counts()),
        "stable": draw(st.none() | counts()),
        "canary_ready": draw(st.sampled_from([True] * 9 + [False])),
        "stable_ready": draw(st.sampled_from([True] * 9 + [False])),
        "canary_restarts": draw(st.sampled_from([0] * 9 + [1, 2])),
        "weight": draw(st.sampled_from(["seen"] * 6 + ["lags", "unknown"])),
        "back": draw(st.sampled_from([0.0] * 9 + [30.0])),
        "orders": draw(
            st.sampled_from([{}] * 6 + [{"paused": True}, {"paused": False}, {"approvals": (50,)}])
        ),
    }


def play(run: Run, sequence: list[dict[str, object]]) -> list[Observation]:
    """Feeds the run; returns what it saw."""
    seen, old = [], 0
    for given_ in sequence:
        orders = given_["orders"]
        assert isinstance(orders, dict)
        run.order(**orders)
        weight = {"seen": run.weight, "lags": old, "unknown": None}[str(given_["weight"])]
        back = given_["back"]
        assert isinstance(back, float)
        old = run.weight
        observation = Observation(
            start=run.now - back,
            end=run.now + 60 - back,
            stable=given_["stable"],  # type: ignore[arg-type]
            canary=given_["canary"],  # type: ignore[arg-type]
            score_edges=EDGES,
            canary_ready=bool(given_["canary_ready"]),
            canary_restarts=given_["canary_restarts"],  # type: ignore[arg-type]
            weight=weight,
            stable_ready=bool(given_["stable_ready"]),
        )
        run.observe(observation)
        seen.append(observation)
    return seen


@QUICK
@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, arm(0)]),
            st.sampled_from([None, arm(0), arm(1000), arm(1000, 1000)]),
        ),
        max_size=80,
    )
)
def test_no_sequence_without_data_of_the_canary_promotes_or_rolls_back(
    sequence: list[tuple[ArmCounts | None, ArmCounts | None]],
) -> None:
    run = Run(plan_of(ERRORS, SCORES, min_requests=0, time_cap_seconds=10**7))
    for canary, stable in sequence:
        run.look(canary, stable)
    assert run.state.step == 0
    assert not {K.PROMOTE, K.ROLL_BACK} & set(run.kinds)


@QUICK
@given(st.lists(looks(), min_size=5, max_size=60))
def test_every_rollback_passes_through_the_dark_state(sequence: list[dict[str, object]]) -> None:
    run = Run(PLAN)
    seen = play(run, sequence)
    assert len(seen) == len(run.actions)
    ordered_back = False
    for observation, action in zip(seen, run.actions, strict=True):
        if action.kind is K.CLEAN_UP and ordered_back:
            assert observation.weight == 0
        if ordered_back:
            assert action.kind in (K.HOLD, K.ROLL_BACK, K.CLEAN_UP)
        ordered_back = ordered_back or action.kind is K.ROLL_BACK
    if run.phase is Phase.ROLLED_BACK:
        assert ordered_back


@QUICK
@given(st.lists(looks(), min_size=5, max_size=60))
def test_no_step_is_ever_skipped(sequence: list[dict[str, object]]) -> None:
    run = Run(PLAN)
    play(run, sequence)
    weights = [action.weight for action in run.actions if action.kind is K.SET_WEIGHT]
    assert weights == [0, 10, 50, 100][: len(weights)]
    if K.PROMOTE in run.kinds:
        assert weights == [0, 10, 50, 100]


@QUICK
@given(st.lists(looks(), min_size=2, max_size=30))
def test_no_interval_is_counted_twice(sequence: list[dict[str, object]]) -> None:
    once, twice = Run(PLAN), Run(PLAN)
    for observation in play(once, sequence):
        twice.observe(observation)
        proofs = twice.state.proofs
        twice.observe(observation)
        assert twice.state.proofs.rates[0].canary == proofs.rates[0].canary
        assert twice.state.proofs.rates[0].stable == proofs.rates[0].stable


@settings(max_examples=15, deadline=None)
@given(st.lists(looks(), min_size=2, max_size=40))
def test_replaying_the_log_gives_every_decision_again(sequence: list[dict[str, object]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "audit.jsonl"
        run = Run(PLAN, AuditLog(path))
        play(run, sequence)
        again = replay(read(path))
    assert again.different == ()
    assert len(again.steps) == len(sequence)
    assert again.state is not None
    assert again.state.phase is run.phase
    assert again.state.proofs == run.state.proofs


@QUICK
@given(st.lists(looks(), min_size=1, max_size=30))
def test_a_record_read_back_is_the_record_written(sequence: list[dict[str, object]]) -> None:
    run = Run(PLAN)
    for one in sequence:
        play(run, [one])
        text = json.dumps(run.state.to_json(), allow_nan=False)
        assert GateState.from_json(json.loads(text)) == run.state


@QUICK
@given(st.lists(looks(), min_size=1, max_size=10))
def test_an_observation_read_back_is_the_one_written(sequence: list[dict[str, object]]) -> None:
    for observation in play(Run(PLAN), sequence):
        text = json.dumps(observation.to_json(), allow_nan=False)
        assert Observation.from_json(json.loads(text)) == observation
