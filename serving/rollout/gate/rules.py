"""The rules of the gate, one function each, and the order in which a phase asks them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from serving.rollout.gate.observation import Observation
from serving.rollout.gate.plan import Plan
from serving.rollout.gate.proof import Reading
from serving.rollout.gate.state import HOLD, Action, ActionKind, GateState, Phase, Request

_FAR = 700.0
"""ln E that a float still holds the exponential of."""


@dataclass(frozen=True)
class Verdict:
    state: GateState
    action: Action
    reason: str


@dataclass(frozen=True)
class Look:
    """What a rule may see: the interval is counted in the state already."""

    plan: Plan
    state: GateState
    observation: Observation

    @cached_property
    def share(self) -> int:
        return share_of(self.plan, self.state)

    @cached_property
    def readings(self) -> tuple[Reading, ...]:
        return self.state.proofs.readings(self.plan, self.share)

    @property
    def in_step(self) -> float:
        """Seconds since the data plane gave the share."""
        started, now = self.state.step_started, self.state.now
        return 0.0 if started is None or now is None else now - started

    @property
    def in_run(self) -> float:
        """Seconds since the run began, pauses left out."""
        started, now = self.state.started, self.state.now
        if started is None or now is None:
            return 0.0
        return now - started - self.state.paused_seconds

    def hold(self, reason: str) -> Verdict:
        return Verdict(self.state, HOLD, reason)


Rule = Callable[[Look], Verdict | None]


def share_of(plan: Plan, state: GateState) -> int:
    """Percent that the canary should have in the state's phase."""
    if state.phase in (Phase.STEP, Phase.FULL, Phase.WAITING_APPROVAL):
        return plan.steps[state.step]
    return 100 if state.phase in (Phase.PROMOTED, Phase.CLEANUP, Phase.DONE) else 0


# Rollback, before anything else.


def crash_loop(look: Look) -> Verdict | None:
    restarts = look.observation.canary_restarts
    if restarts <= look.plan.max_restarts:
        return None
    return _roll_back(
        look, f"the canary restarted {restarts} times, more than {look.plan.max_restarts}"
    )


def canary_not_ready(look: Look) -> Verdict | None:
    if look.observation.canary_ready:
        return None
    return _roll_back(look, "the canary is not ready")


def aborted(look: Look) -> Verdict | None:
    if look.state.orders.request is not Request.ABORT:
        return None
    return _roll_back(look, "a person aborted the run")


def worse(look: Look) -> Verdict | None:
    """Evidence against a rate is the only evidence that rolls back; a shift holds."""
    for reading in look.readings:
        if not reading.shift and reading.crossed:
            return _roll_back(
                look,
                f"{_counts(reading)}; odds {_odds(reading.against)} that the canary is worse,"
                f" {_odds(reading.against_at)} are asked",
            )
    return None


# What people ask for, and the cap.


def promote_by_request(look: Look) -> Verdict | None:
    if look.state.orders.request is not Request.PROMOTE:
        return None
    if not (look.observation.canary_ready and look.observation.stable_ready):
        arm = "canary" if look.observation.stable_ready else "stable"
        return look.hold(f"a person asked to promote, but the {arm} is not ready")
    return _promote(look, "a person promoted the canary")


def paused(look: Look) -> Verdict | None:
    if not look.state.orders.paused:
        return None
    return look.hold("paused by a person; a canary that is proven bad would still be rolled back")


def time_cap(look: Look) -> Verdict | None:
    cap = look.plan.time_cap_seconds
    if look.in_run < cap:
        return None
    action = Action(ActionKind.ASK)
    state = _entered(look, Phase.ASK)
    open_ = [reading.kind for reading in look.readings if not reading.proven]
    why = f", unproven: {', '.join(open_)}" if open_ else ""
    return Verdict(
        state, action, f"no decision within {_time(cap)}{why}; to 0 %, a person must decide"
    )


# Holding.


def weight_differs(look: Look) -> Verdict | None:
    weight = look.observation.weight
    if weight in (None, look.share):
        return None
    return look.hold(f"waiting for the data plane, which gives {weight} % and not {look.share} %")


def stable_not_ready(look: Look) -> Verdict | None:
    if look.observation.stable_ready:
        return None
    return look.hold("stable is not ready: its routes may not move")


def no_data(look: Look) -> Verdict | None:
    canary, stable = look.observation.canary, look.observation.stable
    if canary is None or not canary.requests:
        return look.hold("no data of the canary in this interval")
    if look.share < 100 and (stable is None or not stable.requests):
        return look.hold("no data of stable in this interval")
    return None


def shifted(look: Look) -> Verdict | None:
    for reading in look.readings:
        if reading.shift and reading.crossed:
            return look.hold(
                f"{reading.kind} of the canary are past the tolerance: odds"
                f" {_odds(reading.against)}, {_odds(reading.against_at)} are asked"
            )
    return None


def doubted(look: Look) -> Verdict | None:
    for reading in look.readings:
        if reading.doubted:
            return look.hold(f"{reading.kind} of this step lean against the canary")
    return None


def unproven(look: Look) -> Verdict | None:
    open_ = [
        f"{reading.kind} (odds {_odds(reading.good)} of {_odds(reading.good_at)})"
        for reading in look.readings
        if not reading.proven
    ]
    return look.hold(f"not proven yet: {', '.join(open_)}") if open_ else None


def too_early(look: Look) -> Verdict | None:
    plan, requests = look.plan, look.state.step_requests
    if look.in_step < plan.min_seconds:
        return look.hold(f"{look.in_step:.0f} s of {plan.min_seconds:g} s at {look.share} %")
    if requests < plan.min_requests:
        return look.hold(f"{requests} of {plan.min_requests} canary requests at {look.share} %")
    return None


# Moving on.


def go_dark(look: Look) -> Verdict:
    return Verdict(
        _entered(look, Phase.DARK), Action(ActionKind.SET_WEIGHT, 0), "the canary starts at 0 %"
    )


def warming_up(look: Look) -> Verdict | None:
    if look.observation.canary_ready:
        return None
    return look.hold("waiting until the canary is ready")


def first_step(look: Look) -> Verdict:
    return _to_step(look, 0, "the canary is ready")


def next_step(look: Look) -> Verdict:
    proofs = ", ".join(f"{r.kind} {_odds(r.good)}" for r in look.readings)
    reason = f"proven at {look.share} % (odds: {proofs})"
    if look.state.step + 1 < len(look.plan.steps):
        return _to_step(look, look.state.step + 1, reason)
    return _promote(look, reason)


# After the promotion, the rollback and the cap.


def clean_up(look: Look) -> Verdict:
    warm = look.plan.cleanup_seconds
    if look.in_step < warm:
        return look.hold(f"promoted; the old stable stays warm for {warm:g} s")
    return Verdict(
        _entered(look, Phase.CLEANUP),
        Action(ActionKind.CLEAN_UP),
        "promoted and well: the old stable is removed",
    )


def done(look: Look) -> Verdict:
    return Verdict(replace(look.state, phase=Phase.DONE), HOLD, "the canary is stable")


def back(look: Look) -> Verdict:
    """Removal only after the data plane was seen to give the canary nothing."""
    weight = look.observation.weight
    if weight != 0:
        seen = "does not say what the canary gets" if weight is None else f"gives {weight} % still"
        action = Action(ActionKind.ROLL_BACK)
        return Verdict(look.state, action, f"rolling back: the data plane {seen}")
    state = _entered(look, Phase.ROLLED_BACK)
    if look.plan.remove_after_rollback:
        return Verdict(state, Action(ActionKind.CLEAN_UP), "rolled back: the canary is removed")
    return Verdict(state, HOLD, "rolled back: the canary is at 0 %")


def asking(look: Look) -> Verdict:
    weight = look.observation.weight
    if weight not in (None, 0):
        action = Action(ActionKind.ASK)
        return Verdict(look.state, action, f"to 0 %: the data plane gives {weight} % still")
    return look.hold("at 0 %: a person must promote or abort")


def ended(look: Look) -> Verdict:
    return look.hold(f"the run is {look.state.phase.value}")


_HARD: tuple[Rule, ...] = (crash_loop, canary_not_ready, aborted, worse)
_ROUTE: tuple[Rule, ...] = (weight_differs, stable_not_ready)
_JUDGE: tuple[Rule, ...] = (
    *_HARD,
    promote_by_request,
    paused,
    time_cap,
    *_ROUTE,
    no_data,
    shifted,
    doubted,
    unproven,
    too_early,
    next_step,
)
RULES: Mapping[Phase, tuple[Rule, ...]] = {
    Phase.PENDING: (aborted, paused, go_dark),
    Phase.DARK: (
        crash_loop,
        aborted,
        promote_by_request,
        paused,
        time_cap,
        *_ROUTE,
        warming_up,
        first_step,
    ),
    Phase.STEP: _JUDGE,
    Phase.FULL: _JUDGE,
    Phase.PROMOTED: (*_HARD, paused, *_ROUTE, clean_up),
    Phase.CLEANUP: (done,),
    Phase.DONE: (ended,),
    Phase.ROLLING_BACK: (back,),
    Phase.ROLLED_BACK: (ended,),
    Phase.ASK: (aborted, promote_by_request, asking),
}
"""The last rule of a phase always decides. WAITING_APPROVAL is judged as the step it is."""
COUNTLESS = frozenset({crash_loop, canary_not_ready, aborted, back})
"""Rules that hold whatever was counted."""


def _entered(look: Look, phase: Phase) -> GateState:
    return replace(
        look.state,
        phase=phase,
        step_started=None,
        step_requests=0,
        orders=replace(look.state.orders, request=None),
    )


def _roll_back(look: Look, reason: str) -> Verdict:
    state = _entered(look, Phase.ROLLING_BACK)
    return Verdict(state, Action(ActionKind.ROLL_BACK), f"{reason}: rolled back to 0 %")


def _promote(look: Look, reason: str) -> Verdict:
    state = _entered(look, Phase.PROMOTED)
    state = replace(state, proofs=state.proofs.at_new_step(look.plan, 100))
    return Verdict(state, Action(ActionKind.PROMOTE), f"{reason}: promoted")


def _to_step(look: Look, step: int, reason: str) -> Verdict:
    share = look.plan.steps[step]
    orders = look.state.orders
    if share in look.plan.approvals and share not in orders.approvals:
        waiting = f"{reason}; step {share} % waits for a person's approval"
        if look.state.phase is Phase.DARK:
            return look.hold(waiting)
        return Verdict(replace(look.state, phase=Phase.WAITING_APPROVAL), HOLD, waiting)
    state = _entered(look, Phase.FULL if share == 100 else Phase.STEP)
    state = replace(state, step=step, proofs=state.proofs.at_new_step(look.plan, share))
    return Verdict(state, Action(ActionKind.SET_WEIGHT, share), f"{reason}: to {share} %")


def _counts(reading: Reading) -> str:
    n_c, x = reading.canary
    n_s, s = reading.stable
    return f"{reading.kind}: {x:,} of {n_c:,} at the canary, {s:,} of {n_s:,} at stable"


def _odds(log_e: float) -> str:
    """E as odds, rounded; without a number where it is beyond any."""
    if log_e > math.log(1e6):
        return "above 1,000,000:1"
    odds = math.exp(max(log_e, -_FAR))
    return f"{odds:,.0f}:1" if odds >= 10 else f"{odds:.2g}:1"


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.3g} h" if seconds >= 7200 else f"{seconds:g} s"
