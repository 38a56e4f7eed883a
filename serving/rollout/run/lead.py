"""Starting a run, or going on with the one that is not finished."""

from __future__ import annotations

import contextlib
import datetime
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from serving.errors import GateError, ManifestError
from serving.rollout.actuators.actuator import Actuator
from serving.rollout.gate.plan import Plan
from serving.rollout.gate.state import GateState, Model, begin
from serving.rollout.run.lease import Lease
from serving.rollout.run.moves import models
from serving.rollout.run.runner import Progress, Runner
from serving.rollout.run.store import Run, Runs
from serving.rollout.sources.source import Arms, MetricsSource
from serving.rollout.state import RolloutState

Digest = Callable[[str], str]
"""The bundle's digest by predictor name; empty where it cannot be known."""


def lead(
    runs: Runs,
    plan: Plan,
    source: MetricsSource,
    actuator: Actuator,
    lease: Lease,
    *,
    settings: Mapping[str, Any] | None = None,
    digest: Digest = lambda _: "",
    progress: Progress | None = None,
    started: Callable[[Run], None] | None = None,
) -> GateState:
    """Leads the plan's canary to the end of its run; returns the record.

    `settings` are GateSettings as plain data, kept for `abort` and the dead-man.
    A run of this canary that has not ended goes on where it was, with its evidence if the plan is
    the same. Raises GateError when another gate holds the lease, a run of another canary has not
    ended, or the source cannot answer what a new plan asks; ManifestError when the rollout does
    not list the canary.
    """
    with taken(lease):
        run = _unfinished(runs, plan)
        if run is None:
            run = _begin(runs, plan, source, actuator, settings=settings or {}, digest=digest)
        elif run.plan() != plan:
            # Under the plan that it has, a run goes on even with a source that does not answer: a
            # gate that sees no counts still hears an abort and rolls back a canary that is down.
            state = run.load()
            _preflight(source, actuator.read(), state.stable.name, state.canary.name)
            run.set_plan(plan)
        if started is not None:
            started(run)
        return Runner(run, source, actuator, lease, progress=progress).run()


@contextlib.contextmanager
def taken(lease: Lease) -> Iterator[None]:
    """Holds the lease. Raises GateError naming who else does."""
    lease.take()
    try:
        yield
    finally:
        lease.release()


def _unfinished(runs: Runs, plan: Plan) -> Run | None:
    run = runs.current()
    if run is None:
        return None
    state = run.load()
    if state.ended and state.intended is None:
        return None
    if state.canary.name != plan.canary:
        raise GateError(
            f"run {run.id} of canary '{state.canary.name}' has not ended and the plan is for"
            f" '{plan.canary}'; finish or abort it first"
        )
    return run


def _begin(
    runs: Runs,
    plan: Plan,
    source: MetricsSource,
    actuator: Actuator,
    *,
    settings: Mapping[str, Any],
    digest: Digest,
) -> Run:
    rollout = actuator.read()
    state = first_record(rollout, plan, digest)
    _preflight(source, rollout, state.stable.name, state.canary.name)
    kept = {"namespace": rollout.namespace, "gate": dict(settings)}
    return runs.create(state.run, plan, kept, state)


def _preflight(source: MetricsSource, rollout: RolloutState, stable: str, canary: str) -> None:
    """What the source can never answer is found before anything moves. Raises GateError."""
    source.look(Arms(rollout.service, rollout.namespace, stable, canary), None, time.time())


def first_record(rollout: RolloutState, plan: Plan, digest: Digest) -> GateState:
    """The record of a run that has not looked yet. Raises ManifestError."""
    if plan.canary not in [canary.arm.name for canary in rollout.canaries]:
        listed = ", ".join(canary.arm.name for canary in rollout.canaries) or "none"
        raise ManifestError(
            f"rollout of '{rollout.service}': the plan is for canary '{plan.canary}' and listed are"
            f" {listed}; add it at 0 % with 'seatrial rollout canary'"
        )
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    run = f"{now}-{plan.canary}-{secrets.token_hex(2)}"
    names = (rollout.stable.name, plan.canary)
    empty = [Model(name, "", "") for name in names]
    state = begin(plan, run=run, service=rollout.service, stable=empty[0], canary=empty[1])
    stable, canary = models(rollout, state)
    return replace(
        state,
        stable=replace(stable, bundle=digest(stable.name)),
        canary=replace(canary, bundle=digest(canary.name)),
    )
