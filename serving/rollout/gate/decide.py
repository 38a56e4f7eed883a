"""The decision. Pure: time comes from the observation, and nothing is read or written."""

from __future__ import annotations

from dataclasses import replace

from serving.errors import DataError
from serving.rollout.gate.observation import Observation
from serving.rollout.gate.plan import Plan
from serving.rollout.gate.rules import COUNTLESS, RULES, Look, share_of
from serving.rollout.gate.state import (
    HOLD,
    Action,
    ActionKind,
    GateState,
    Phase,
    restarted,
)

JUDGED = frozenset({Phase.PENDING, Phase.DARK, Phase.STEP, Phase.FULL, Phase.WAITING_APPROVAL})
"""Phases in which another plan means another run of evidence."""


def decide(plan: Plan, state: GateState, observation: Observation) -> tuple[GateState, Action, str]:
    """The next state, what is to be done, and why, in plain words.

    The rules of the state's phase are asked in order and the first that applies decides. Never
    raises: an observation that contradicts itself or the clock is not counted and says so; only
    what needs no counts is decided then: a canary that is down, a person's abort.
    """
    state = replace(state, looks=state.looks + 1)
    if plan.digest != state.plan_digest:
        if state.phase in JUDGED:
            state = restarted(state, plan)
            return _acting(
                replace(state, phase=Phase.DARK),
                Action(ActionKind.SET_WEIGHT, 0),
                "the plan changed: back to 0 %, and evidence begins anew",
            )
        state = replace(state, plan_digest=plan.digest)
    problem = _rejection(state, observation)
    if problem is None:
        try:
            state = _counted(plan, state, observation)
        except DataError as error:
            problem = str(error)
    if state.phase is Phase.WAITING_APPROVAL:
        state = replace(state, phase=Phase.STEP)  # it waits again if all is still proven
    look = Look(plan, state, observation)
    for rule in RULES[state.phase]:
        if problem is None or rule in COUNTLESS:
            verdict = rule(look)
            if verdict is not None:
                return _acting(verdict.state, verdict.action, verdict.reason)
    return state, HOLD, f"observation rejected, nothing counted: {problem}"


def _acting(state: GateState, action: Action, reason: str) -> tuple[GateState, Action, str]:
    if action.kind is not ActionKind.HOLD:
        state = replace(state, intended=action)
    return state, action, reason


def _rejection(state: GateState, observation: Observation) -> str | None:
    """Why the interval cannot follow those before it."""
    start, end = observation.start, observation.end
    if end < start:
        return f"it ends {start - end:g} s before it starts"
    if state.now is not None and end < state.now:
        return f"the clock went back {state.now - end:g} s"
    counted = observation.stable is not None or observation.canary is not None
    if counted and state.last_end is not None and start < state.last_end:
        return f"it overlaps the last one by {state.last_end - start:g} s"
    return None


def _counted(plan: Plan, state: GateState, observation: Observation) -> GateState:
    """The state with the interval's time and counts. Raises DataError."""
    before = observation.start if state.now is None else state.now
    found = replace(
        state,
        now=observation.end,
        started=observation.start if state.started is None else state.started,
        paused_seconds=state.paused_seconds
        + (observation.end - before if state.orders.paused else 0.0),
    )
    if observation.stable is not None or observation.canary is not None:
        found = replace(
            found, proofs=state.proofs.updated(plan, observation), last_end=observation.end
        )
    if found.step_started is not None and observation.canary is not None:
        requests = found.step_requests + observation.canary.requests
        return replace(found, step_requests=requests)
    if found.step_started is None and observation.weight in (None, share_of(plan, found)):
        # Only from here on has the canary had its share for certain.
        return replace(found, step_started=observation.end)
    return found
