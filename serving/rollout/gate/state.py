"""The record of a run: all that the gate must remember between two looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from serving.errors import DataError
from serving.rollout.gate.plan import Plan
from serving.rollout.gate.proof import Proofs

RECORD_FORMAT = "seatrial.rollout-record/1"


class Phase(Enum):
    PENDING = "pending"
    """The canary is to be set dark."""
    DARK = "dark"
    """0 %: waiting until the canary is ready."""
    STEP = "step"
    """A share below 100 %; evidence grows."""
    FULL = "full"
    """100 %: stable has no traffic to compare with."""
    WAITING_APPROVAL = "waiting-approval"
    """All is proven for the next step, which a person must approve."""
    PROMOTED = "promoted"
    """The canary is stable; the old stable is warm at 0 %."""
    CLEANUP = "cleanup"
    """The arm that is no longer needed is being removed."""
    DONE = "done"
    ROLLING_BACK = "rolling-back"
    """0 % is ordered and the data plane does not show it yet."""
    ROLLED_BACK = "rolled-back"
    ASK = "ask"
    """The time cap: the canary is dark and a person must promote or abort."""


ENDED = frozenset({Phase.DONE, Phase.ROLLED_BACK})
SHIFTING = frozenset({Phase.STEP, Phase.FULL, Phase.WAITING_APPROVAL})
"""Phases in which the canary has traffic and is judged."""


class ActionKind(Enum):
    HOLD = "hold"
    SET_WEIGHT = "set-weight"
    PROMOTE = "promote"
    """One write: the canary becomes stable, the old stable stays at 0 %."""
    CLEAN_UP = "clean-up"
    """Remove the arm at 0 %: the old stable, or a rolled-back canary."""
    ROLL_BACK = "roll-back"
    """The dark state: the stable of the run's start has all traffic, nothing is removed."""
    ASK = "ask"
    """The dark state as well, and a person must decide."""


@dataclass(frozen=True)
class Action:
    kind: ActionKind
    weight: int | None = None
    """Percent for the canary; SET_WEIGHT only."""

    def __str__(self) -> str:
        return f"{self.kind.value} {self.weight} %" if self.weight is not None else self.kind.value

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind.value, "weight": self.weight}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Action:
        return cls(ActionKind(found["kind"]), found["weight"])


HOLD = Action(ActionKind.HOLD)


class Request(Enum):
    """What a person asked for; the next look does it."""

    PROMOTE = "promote"
    ABORT = "abort"


@dataclass(frozen=True)
class Orders:
    """What people told the gate."""

    paused: bool = False
    approvals: tuple[int, ...] = ()
    """Steps that were approved."""
    request: Request | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "paused": self.paused,
            "approvals": list(self.approvals),
            "request": None if self.request is None else self.request.value,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Orders:
        request = found["request"]
        return cls(
            found["paused"],
            tuple(found["approvals"]),
            None if request is None else Request(request),
        )


@dataclass(frozen=True)
class Model:
    """What an arm serves."""

    name: str
    """predictor.name."""
    storage_uri: str
    bundle: str
    """The bundle's digest; empty where it is not known."""

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "storage_uri": self.storage_uri, "bundle": self.bundle}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Model:
        return cls(found["name"], found["storage_uri"], found["bundle"])


@dataclass(frozen=True)
class GateState:
    run: str
    service: str
    uid: str
    """The InferenceService's UID, empty where there is no cluster."""
    stable: Model
    """Stable as the run began, also after the promotion."""
    canary: Model
    plan_digest: str
    proofs: Proofs
    phase: Phase = Phase.PENDING
    step: int = 0
    """Index into the plan's steps."""
    started: float | None = None
    """Unix seconds of the first look's start."""
    step_started: float | None = None
    """When the data plane was first seen to give the step's share."""
    step_requests: int = 0
    """Canary requests of this step."""
    paused_seconds: float = 0.0
    last_end: float | None = None
    """End of the last interval that was counted: no later one may start before it."""
    now: float | None = None
    """Latest end of an interval that was looked at, counted or not: the run's clock."""
    looks: int = 0
    orders: Orders = Orders()
    snapshots: Mapping[str, Any] = field(default_factory=dict)
    """The metrics source's counters as of last_end; opaque here."""
    intended: Action | None = None
    """Written before it is done; `finished` clears it."""
    tail: str = ""
    """The audit line of the last look, written here before it is appended to the log."""
    version: int = 0
    """Raised by every write; a write of a record that has changed meanwhile is refused."""

    @property
    def ended(self) -> bool:
        return self.phase in ENDED

    def to_json(self) -> dict[str, Any]:
        return {
            "format": RECORD_FORMAT,
            "run": self.run,
            "service": self.service,
            "uid": self.uid,
            "stable": self.stable.to_json(),
            "canary": self.canary.to_json(),
            "plan_digest": self.plan_digest,
            "proofs": self.proofs.to_json(),
            "phase": self.phase.value,
            "step": self.step,
            "started": self.started,
            "step_started": self.step_started,
            "step_requests": self.step_requests,
            "paused_seconds": self.paused_seconds,
            "last_end": self.last_end,
            "now": self.now,
            "looks": self.looks,
            "orders": self.orders.to_json(),
            "snapshots": dict(self.snapshots),
            "intended": None if self.intended is None else self.intended.to_json(),
            "tail": self.tail,
            "version": self.version,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any], source: object = "record") -> GateState:
        """Raises DataError naming `source` when it is no record."""
        try:
            if found["format"] != RECORD_FORMAT:
                raise DataError(
                    f"{source}: format is {found['format']!r} and not '{RECORD_FORMAT}'; restore it"
                )
            intended = found["intended"]
            return cls(
                run=found["run"],
                service=found["service"],
                uid=found["uid"],
                stable=Model.from_json(found["stable"]),
                canary=Model.from_json(found["canary"]),
                plan_digest=found["plan_digest"],
                proofs=Proofs.from_json(found["proofs"]),
                phase=Phase(found["phase"]),
                step=found["step"],
                started=found["started"],
                step_started=found["step_started"],
                step_requests=found["step_requests"],
                paused_seconds=found["paused_seconds"],
                last_end=found["last_end"],
                now=found["now"],
                looks=found["looks"],
                orders=Orders.from_json(found["orders"]),
                snapshots=dict(found["snapshots"]),
                intended=None if intended is None else Action.from_json(intended),
                tail=found["tail"],
                version=found["version"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{source}: not a rollout's record ({type(error).__name__}: {error}); restore it"
            ) from None


def begin(
    plan: Plan, *, run: str, service: str, stable: Model, canary: Model, uid: str = ""
) -> GateState:
    """The record of a run that has not looked yet."""
    return GateState(run, service, uid, stable, canary, plan.digest, Proofs.fresh(plan))


def restarted(state: GateState, plan: Plan) -> GateState:
    """The run from its dark state again, without its evidence and its approvals."""
    return replace(
        state,
        plan_digest=plan.digest,
        proofs=Proofs.fresh(plan),
        phase=Phase.PENDING,
        step=0,
        step_started=None,
        step_requests=0,
        orders=replace(state.orders, approvals=(), request=None),
    )


def with_models(state: GateState, plan: Plan, stable: Model, canary: Model) -> GateState:
    """The state for these models: evidence about other models is worth nothing.

    Restarted when either differs before the promotion; afterwards the run keeps its models.
    """
    if (stable, canary) == (state.stable, state.canary):
        return state
    if state.phase not in {Phase.PENDING, Phase.DARK, *SHIFTING}:
        return state
    return restarted(replace(state, stable=stable, canary=canary), plan)


def finished(state: GateState) -> GateState:
    """The state once its intended action is done."""
    return replace(state, intended=None)


def paused(state: GateState, on: bool = True) -> GateState:
    """Paused or resumed. A paused run is still rolled back on hard evidence."""
    return replace(state, orders=replace(state.orders, paused=on))


def approved(state: GateState, plan: Plan, step: int) -> GateState:
    """The state with the step of `step` percent approved. Raises DataError for another share."""
    if step not in plan.approvals:
        wanted = ", ".join(f"{s} %" for s in plan.approvals) or "no step"
        raise DataError(f"run {state.run}: {step} % asks for no approval; {wanted} does")
    approvals = tuple(sorted({*state.orders.approvals, step}))
    return replace(state, orders=replace(state.orders, approvals=approvals))


def requested(state: GateState, request: Request) -> GateState:
    """The state with a person's request. Raises DataError when it comes too late."""
    if state.ended or state.phase is Phase.CLEANUP:
        raise DataError(f"run {state.run} is {state.phase.value}; start another run")
    if request is Request.PROMOTE and state.phase in (Phase.PROMOTED, Phase.ROLLING_BACK):
        raise DataError(f"run {state.run} is {state.phase.value} already; nothing to promote")
    return replace(state, orders=replace(state.orders, request=request))
