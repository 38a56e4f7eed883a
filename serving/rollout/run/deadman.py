"""The dead-man: when a gate has been silent for too long, its canary goes to 0 %.

A process of its own, so that nothing that stops the gate stops it. It needs neither the gate's
lease nor its evidence: it only ever gives stable all the traffic.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from serving.errors import GateError
from serving.rollout.actuators.actuator import Actuator
from serving.rollout.gate.chain import RUN_TRAILER
from serving.rollout.gate.state import SHIFTING, Action, ActionKind, Phase
from serving.rollout.run.moves import moved
from serving.rollout.run.parts import GateSettings, build
from serving.rollout.run.store import Run

WATCHED = frozenset({Phase.PENDING, Phase.DARK, Phase.ROLLING_BACK, Phase.ASK, *SHIFTING})
"""Phases in which a canary may have traffic that someone has to answer for."""


def check(run: Run, actuator: Actuator, stale_seconds: float, now: float) -> str | None:
    """What was done about a silent gate, in one sentence; None where nothing was needed.

    The gate that comes back finds the request to abort. Raises GateError when the traffic could
    not be moved.
    """
    state = run.load()
    silence = run.silence(now)
    if state.phase not in WATCHED or silence < stale_seconds:
        return None
    rollout = actuator.read()
    target = moved(rollout, state, Action(ActionKind.ROLL_BACK))
    if not any(one.kind == "abort" and one.by == "dead-man" for one in run.asked()):
        run.ask("abort", "dead-man")
    if target == rollout:
        return None
    why = f"the gate of run {state.run} was silent for {silence:.0f} s"
    message = f"roll back {state.canary.name}\n\n{why}"
    actuator.write(target, message, {RUN_TRAILER: state.run})
    return f"{why}: canary '{state.canary.name}' is set to 0 %"


def watch(
    settings: GateSettings,
    *,
    once: bool = False,
    every_seconds: float = 5.0,
    tell: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Checks the folder's current run, once or until it has ended. Raises GateError with `once`."""
    while True:
        try:
            run = settings.runs.current()
            if run is not None and run.load().ended:
                return
            if run is not None:
                kept = GateSettings.model_validate(run.settings()["gate"])
                plan = run.plan()
                stale = settings.deadman_seconds or kept.stale_after(plan)
                done = check(run, build(kept, plan).actuator, stale, time.time())
                if done is not None:
                    tell(done)
        except GateError as error:
            if once:
                raise
            tell(f"error: {error}")
        if once:
            return
        sleep(every_seconds)
