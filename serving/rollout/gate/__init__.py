"""The decision core of a rollout: plan, observation, record, decision, audit. Acts on nothing.

plan.yaml + record + observation  --decide-->  record, action, reason
"""

from serving.rollout.gate.audit import AuditLog, Entry, read, verify
from serving.rollout.gate.chain import Link, verify_chain
from serving.rollout.gate.decide import decide
from serving.rollout.gate.explain import explain
from serving.rollout.gate.observation import ArmCounts, LabelCohort, Observation
from serving.rollout.gate.plan import (
    PLAN_FILE,
    Plan,
    check_actuator,
    check_latency_edge,
    parse_plan,
    read_plan,
)
from serving.rollout.gate.proof import Proofs, Reading
from serving.rollout.gate.replay import Replay, replay
from serving.rollout.gate.rules import share_of
from serving.rollout.gate.simulate import ArmModel, Outcome, Scenario, Summary, compare, simulate
from serving.rollout.gate.state import (
    ENDED,
    HOLD,
    Action,
    ActionKind,
    GateState,
    Model,
    Orders,
    Phase,
    Request,
    approved,
    begin,
    finished,
    paused,
    requested,
    restarted,
    with_models,
)

__all__ = [
    "ENDED",
    "HOLD",
    "PLAN_FILE",
    "Action",
    "ActionKind",
    "ArmCounts",
    "ArmModel",
    "AuditLog",
    "Entry",
    "GateState",
    "LabelCohort",
    "Link",
    "Model",
    "Observation",
    "Orders",
    "Outcome",
    "Phase",
    "Plan",
    "Proofs",
    "Reading",
    "Replay",
    "Request",
    "Scenario",
    "Summary",
    "approved",
    "begin",
    "check_actuator",
    "check_latency_edge",
    "compare",
    "decide",
    "explain",
    "finished",
    "parse_plan",
    "paused",
    "read",
    "read_plan",
    "replay",
    "requested",
    "restarted",
    "share_of",
    "simulate",
    "verify",
    "verify_chain",
    "with_models",
]
