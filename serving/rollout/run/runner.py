"""The gate at work: look, decide, write down, act.

Everything that a look decided is in the record before anything is done about it, so a gate that is
killed at any point goes on from its record: the interval is counted once, the line is in the audit
log once, and the action is done, or done again, which changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from serving.errors import DataError, GateError, ManifestError
from serving.rollout.actuators.actuator import Actuator
from serving.rollout.gate.audit import AuditLog, Entry, read
from serving.rollout.gate.chain import EVIDENCE_TRAILER, RUN_TRAILER
from serving.rollout.gate.decide import decide
from serving.rollout.gate.observation import Observation
from serving.rollout.gate.plan import Plan
from serving.rollout.gate.rules import share_of
from serving.rollout.gate.state import (
    Action,
    ActionKind,
    GateState,
    Phase,
    Request,
    approved,
    finished,
    paused,
    requested,
    with_models,
)
from serving.rollout.run.lease import Lease
from serving.rollout.run.memory import Memory
from serving.rollout.run.moves import as_decided, models, moved
from serving.rollout.run.observe import observe
from serving.rollout.run.store import Asked, Run
from serving.rollout.sources.source import Arms, MetricsSource
from serving.rollout.state import RolloutState

SETTLE_S = 10.0
POLL_S = 0.1
RENEW_S = 5.0
RETRY_S = 5.0
LED = frozenset({Phase.DARK, Phase.STEP, Phase.FULL, Phase.WAITING_APPROVAL})
"""Phases in which the weights are the gate's alone."""


@dataclass(frozen=True)
class Step:
    """What one look came to, for who watches."""

    state: GateState
    observation: Observation
    action: Action
    reason: str
    problem: str
    """What kept the gate from seeing or acting; empty where all is well."""


Progress = Callable[[Step], None]


class Runner:
    """Leads one run. Only the holder of the lease may."""

    def __init__(
        self,
        run: Run,
        source: MetricsSource,
        actuator: Actuator,
        lease: Lease,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        progress: Progress | None = None,
        settle_seconds: float = SETTLE_S,
    ) -> None:
        self._run, self._source, self._actuator, self._lease = run, source, actuator, lease
        self._plan = run.plan()
        self._clock, self._sleep, self._settle = clock, sleep, settle_seconds
        self._progress = progress
        self._renewed = 0.0
        self._log: AuditLog | None = None

    def run(self) -> GateState:
        """Looks until the run has ended; returns its record. The lease must have been taken.

        Raises GateError when another gate takes it.
        """
        state = self.recover()
        while not state.ended or state.intended is not None:
            began = self._clock()
            state, again = self.look(state)
            if not again and not (state.ended and state.intended is None):
                self._wait(began, state)
        return state

    def recover(self) -> GateState:
        """Finishes what a gate before this one had written down and not done."""
        self._alive()
        state = self._run.load()
        self._log = log = AuditLog(self._run.audit_file)
        if log.last is None:
            log.append(log.begun(self._run.plan(), state))
        if state.tail:
            entry = Entry.from_line(state.tail)
            if log.last is not None and entry.number > log.last.number:
                log.append(entry)
        plans = [e.body["plan_digest"] for e in read(log.path) if e.kind in ("run", "plan")]
        if plans[-1] != self._plan.digest:
            log.append(log.planned(self._plan))
        return self._act(state)[0]

    def look(self, state: GateState) -> tuple[GateState, bool]:
        """One look and what follows from it: (record, whether to look again at once)."""
        self._alive()
        memory, pending = Memory.of(state), state.intended
        state, asked, refused = self._heard(state, memory)
        resumed = any(one.kind == "resume" for one in asked)
        served = (state.stable, state.canary)
        state, foreign = self._watched(state, memory, resumed)
        if served != (state.stable, state.canary):
            memory = replace(memory, source=None)  # what was counted up to now was of others
        arms = Arms(state.service, self._namespace(), state.stable.name, state.canary.name)
        seen = observe(self._source, self._actuator, arms, memory, self._clock())
        after, action, reason = decide(self._plan, state, seen.observation)
        memory = seen.memory
        if asked:
            memory = replace(memory, heard=asked[-1].file.name)
        problem = "; ".join(filter(None, (refused, foreign, seen.problem)))
        log = self._log or AuditLog(self._run.audit_file)
        entry = log.looked(self._plan, state, seen.observation, after, action, reason)
        memory = replace(memory, problem=problem)
        if after.intended is not None and after.intended != pending:
            memory = replace(memory, why=reason, evidence=entry.hash)
        state = self._run.save(replace(after, tail=entry.line, snapshots=memory.to_json()))
        log.append(entry)
        for one in asked:
            one.file.unlink(missing_ok=True)
        state, done = self._act(state)
        self._tell(state, seen.observation, action, reason)
        return state, done or seen.more

    def _act(self, state: GateState) -> tuple[GateState, bool]:
        """Does what is intended; (record, whether it is done and shows in the traffic)."""
        action, memory = state.intended, Memory.of(state)
        if action is None:
            return state, False
        self._alive(force=True)
        try:
            target = moved(self._actuator.read(), state, action)
            mark = self._actuator.write(target, *_message(state, action, memory))
        except (GateError, ManifestError) as error:
            # Still intended: the next look tries again, unless it decides otherwise.
            return self._noted(state, memory, str(error)), False
        settled = self._settled(target, state)
        memory = replace(memory, written=target.weights, mark=mark)
        state = replace(finished(state), snapshots=memory.to_json())
        return self._run.save(state), settled

    def _settled(self, target: RolloutState, state: GateState) -> bool:
        """Waits for the traffic to be as asked, for a while: the next interval then begins with
        the new weights. Not for a canary that is down: that is the next look's to answer."""
        deadline = self._clock() + self._settle
        stable, canary = state.stable.name, state.canary.name
        given = target.weights.get(canary, 0) > 0
        while True:
            self._alive()
            try:
                if self._actuator.settled(target):
                    return True
                if given and not self._actuator.health(stable, canary).canary_ready:
                    return False
            except GateError:
                pass  # the next look will say so
            if self._clock() >= deadline:
                return False
            self._sleep(POLL_S)

    def _heard(self, state: GateState, memory: Memory) -> tuple[GateState, list[Asked], str]:
        """The state with what people asked for since; what cannot be done is said and dropped."""
        asked, refused = [], ""
        for one in self._run.asked():
            asked.append(one)
            if one.file.name <= memory.heard:
                continue  # done before, by a gate that was killed before it removed the file
            try:
                state = obey(state, self._plan, one)
            except DataError as error:
                refused = f"'{one.kind}' by {one.by} was refused: {error}"
        return state, asked, refused

    def _watched(self, state: GateState, memory: Memory, resumed: bool) -> tuple[GateState, str]:
        """The state with what others did to the rollout meanwhile, and what that was."""
        if state.intended is not None or state.phase not in LED:
            return state, ""
        try:
            found = self._actuator.read()
            now = with_models(state, self._plan, *models(found, state))
        except (GateError, ManifestError) as error:
            return state, str(error)
        if (now.stable, now.canary) != (state.stable, state.canary):
            return now, "another model was written into the rollout: evidence begins anew"
        foreign = as_decided(found, memory.written)
        if foreign is None or (state.orders.paused and not resumed):
            return state, foreign or ""
        if resumed:
            again = Action(ActionKind.SET_WEIGHT, share_of(self._plan, state))
            return replace(state, intended=again), ""
        # A person's hand on the weights: the gate steps back until it is told to go on.
        return paused(state), f"{foreign}: paused; 'resume' sets the gate's weights again"

    def _wait(self, began: float, state: GateState) -> None:
        pause = self._plan.look_seconds
        if state.intended is not None:
            pause = min(pause, RETRY_S)
        while self._clock() < began + pause and not self._run.asked():
            self._alive()
            self._sleep(min(POLL_S, max(0.0, began + pause - self._clock())))

    def _alive(self, *, force: bool = False) -> None:
        """Raises GateError when another gate has taken over."""
        now = self._clock()
        if force or abs(now - self._renewed) >= min(RENEW_S, self._plan.look_seconds):
            self._lease.renew()
            self._run.beat()
            self._renewed = now

    def _noted(self, state: GateState, memory: Memory, problem: str) -> GateState:
        if problem == memory.problem:
            return state
        noted = replace(memory, problem=problem)
        return self._run.save(replace(state, snapshots=noted.to_json()))

    def _tell(self, state: GateState, seen: Observation, action: Action, reason: str) -> None:
        if self._progress is not None:
            self._progress(Step(state, seen, action, reason, Memory.of(state).problem))

    def _namespace(self) -> str:
        return str(self._run.settings().get("namespace", ""))


def _message(state: GateState, action: Action, memory: Memory) -> tuple[str, dict[str, str]]:
    """Message and trailers of the write: why, and on which evidence."""
    canary = state.canary.name
    title = {
        ActionKind.SET_WEIGHT: f"canary {canary}: {action.weight} %",
        ActionKind.PROMOTE: f"promote {canary}",
        ActionKind.CLEAN_UP: f"clean up after {canary}",
        ActionKind.ROLL_BACK: f"roll back {canary}",
        ActionKind.ASK: f"canary {canary}: 0 %, a person must decide",
    }[action.kind]
    trailers = {RUN_TRAILER: state.run, EVIDENCE_TRAILER: memory.evidence}
    return f"{title}\n\n{memory.why}", trailers


def obey(state: GateState, plan: Plan, asked: Asked) -> GateState:
    """The state after a person's request. Raises DataError when it cannot be done."""
    if asked.kind in ("pause", "resume"):
        return paused(state, asked.kind == "pause")
    if asked.kind == "approve":
        return approved(state, plan, asked.step or 0)
    if asked.kind in ("promote", "abort"):
        return requested(state, Request(asked.kind))
    raise DataError(f"nobody knows how to '{asked.kind}'")
