"""Plans, observations and a run that is fed with them, for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from serving.rollout.gate import (
    Action,
    ActionKind,
    ArmCounts,
    AuditLog,
    GateState,
    LabelCohort,
    Model,
    Observation,
    Phase,
    Plan,
    begin,
    decide,
    parse_plan,
)

EDGES = (0.1, 0.3, 0.5, 0.7)
STABLE = Model("v1", "pvc://seatrial-bundles/fraud/v1", "a" * 64)
CANARY = Model("v2", "pvc://seatrial-bundles/fraud/v2", "b" * 64)
ERRORS = {"kind": "errors", "max_rate": 0.01}


def plan_of(*metrics: dict[str, Any], **fields: Any) -> Plan:
    """Errors only unless told otherwise, and looks once a minute with no minimum time."""
    found = {
        "canary": "v2",
        "metrics": list(metrics) or [ERRORS],
        "min_seconds": 0,
        "min_requests": 50,
        "cleanup_seconds": 0,
        "dispersion": 1,
        **fields,
    }
    return parse_plan(found, "plan.yaml")


def arm(
    requests: int,
    errors: int = 0,
    *,
    slow: int = 0,
    scores: tuple[int, ...] | None = None,
    decisions: dict[str, int] | None = None,
    labels: tuple[LabelCohort, ...] = (),
) -> ArmCounts:
    """Scores and decisions spread evenly unless given."""
    part = requests // 5
    return ArmCounts(
        requests,
        errors,
        slow,
        (part,) * 4 + (requests - 4 * part,) if scores is None else scores,
        tuple(sorted((decisions or {"approve": requests - part, "decline": part}).items())),
        labels,
    )


class Run:
    """One run: the data plane obeys at once, and time passes a minute a look."""

    def __init__(self, plan: Plan, log: AuditLog | None = None) -> None:
        self.plan, self.log = plan, log
        self.state: GateState = begin(
            plan, run="r1", service="fraud", uid="u1", stable=STABLE, canary=CANARY
        )
        self.now, self.weight = 1_000.0, 0
        self.actions: list[Action] = []
        self.reason = ""
        if log is not None:
            log.append(log.begun(plan, self.state))

    def look(
        self, canary: ArmCounts | None = None, stable: ArmCounts | None = None, **fields: Any
    ) -> Action:
        """Decides on one interval; the fields are the observation's."""
        found: dict[str, Any] = {
            "start": self.now,
            "end": self.now + 60,
            "score_edges": EDGES,
            "canary_ready": True,
            "canary_restarts": 0,
            "weight": self.weight,
            **fields,
        }
        return self.observe(Observation(stable=stable, canary=canary, **found))

    def observe(self, observation: Observation) -> Action:
        before = self.state
        self.state, action, self.reason = decide(self.plan, before, observation)
        if self.log is not None:
            entry = self.log.looked(self.plan, before, observation, self.state, action, self.reason)
            self.log.append(entry)
        self.now = max(self.now, observation.end)
        self.actions.append(action)
        if action.kind is ActionKind.PROMOTE:
            self.weight = 100
        elif action.kind not in (ActionKind.HOLD, ActionKind.CLEAN_UP):
            self.weight = action.weight or 0
        return action

    def split(self, requests: int = 1000, canary_rate: float = 0.0, rate: float = 0.0) -> Action:
        """One interval of that many requests, split by the weight, failing at these rates."""
        n_c = requests * self.weight // 100
        n_s = requests - n_c
        return self.look(arm(n_c, round(n_c * canary_rate)), arm(n_s, round(n_s * rate)))

    def until(self, *phases: Phase, looks: int = 200, **split: Any) -> Phase:
        """Looks until the run is in one of the phases."""
        for _ in range(looks):
            if self.phase in phases:
                break
            self.split(**split)
        return self.phase

    def order(self, **orders: Any) -> None:
        self.state = replace(self.state, orders=replace(self.state.orders, **orders))

    @property
    def phase(self) -> Phase:
        return self.state.phase

    @property
    def kinds(self) -> list[ActionKind]:
        return [action.kind for action in self.actions if action.kind is not ActionKind.HOLD]


def at_step(plan: Plan, **split: Any) -> Run:
    """A run at its first step."""
    run = Run(plan)
    assert run.until(Phase.STEP, Phase.FULL, **split) in (Phase.STEP, Phase.FULL)
    return run
