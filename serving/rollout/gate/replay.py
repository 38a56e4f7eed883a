"""Deciding again: the audit log's observations must lead to the audit log's decisions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from serving.errors import GateError
from serving.rollout.gate.audit import Entry, decision
from serving.rollout.gate.decide import decide
from serving.rollout.gate.observation import Observation
from serving.rollout.gate.plan import Plan, parse_plan
from serving.rollout.gate.rules import share_of
from serving.rollout.gate.state import GateState, Model, Orders, begin, with_models

TOLERANCE = 1e-9
"""Relative difference of ln E that another processor's logarithms may make."""


@dataclass(frozen=True)
class Step:
    """One look, decided again."""

    number: int
    """Of its audit line."""
    was: Mapping[str, Any]
    """The decision in the log."""
    decision: Mapping[str, Any]
    equal: bool


@dataclass(frozen=True)
class Replay:
    steps: tuple[Step, ...]
    requests: int
    """Of both arms, in all looks."""
    state: GateState | None
    """After the last look."""

    @property
    def different(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if not step.equal)


def replay(entries: Iterable[Entry], plan: Plan | None = None) -> Replay:
    """Every look of a log decided again, by the log's own plans or, to compare, by `plan`.

    Another plan sees the same counts, whatever shares it would have given: evidence does not
    depend on the split. Raises GateError when the log does not begin with a run.
    """
    state: GateState | None = None
    steps: list[Step] = []
    requests = 0
    used = plan
    for entry in entries:
        body = entry.body
        if entry.kind == "run":
            used = plan or _plan(entry)
            state = begin(
                used,
                run=body["run"],
                service=body["service"],
                uid=body["uid"],
                stable=Model.from_json(body["stable"]),
                canary=Model.from_json(body["canary"]),
            )
        elif state is None or used is None:
            raise GateError(f"audit line {entry.number}: no run has begun; give the whole log")
        elif entry.kind == "plan":
            used = plan or _plan(entry)
        elif entry.kind == "look":
            observation = Observation.from_json(body["observation"])
            if plan is not None:
                observation = replace(observation, weight=share_of(plan, state))
            state, step = _again(entry, used, state, observation)
            steps.append(step)
            arms = (observation.stable, observation.canary)
            requests += sum(arm.requests for arm in arms if arm is not None)
        else:
            raise GateError(f"audit line {entry.number}: kind '{entry.kind}' is unknown")
    return Replay(tuple(steps), requests, state if steps else None)


def _again(
    entry: Entry, plan: Plan, state: GateState, observation: Observation
) -> tuple[GateState, Step]:
    body = entry.body
    models = (Model.from_json(body["stable"]), Model.from_json(body["canary"]))
    before = with_models(state, plan, *models)
    before = replace(before, orders=Orders.from_json(body["orders"]))
    after, action, reason = decide(plan, before, observation)
    found, was = decision(plan, after, action, reason), body["decision"]
    if found == was:
        found = was  # nearly always: kept once
    return after, Step(entry.number, was, found, _equal(found, was))


def _plan(entry: Entry) -> Plan:
    found = parse_plan(entry.body["plan"], f"audit line {entry.number}")
    if found.digest != entry.body["plan_digest"]:
        raise GateError(f"audit line {entry.number}: the plan's digest is another plan's")
    return found


def _equal(a: Any, b: Any) -> bool:
    if a == b:
        return True
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, float) and isinstance(b, float | int):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return False
