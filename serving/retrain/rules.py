"""Which events start a run, and when: pure functions of what the journal knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from serving.retrain.cloudevent import CloudEvent
from serving.retrain.journal import ACTIVE, WAITING, Record, State

DRIFT = "io.seatrial.drift."
OPENED, ESCALATED, RESOLVED = DRIFT + "opened", DRIFT + "escalated", DRIFT + "resolved"
DEGRADED = "io.seatrial.performance.degraded"
Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
USUAL: dict[str, Severity] = {OPENED: "warning", ESCALATED: "critical", DEGRADED: "critical"}
"""For events whose data names no severity; what is not here is info."""


@dataclass(frozen=True)
class Rules:
    types: frozenset[str] = frozenset({OPENED, ESCALATED, DEGRADED})
    severity: Severity = "warning"
    """Less severe events start nothing."""
    cooldown: float = 6 * 3600.0
    """Seconds from the end of a model's run to the start of its next."""
    hold: float = 24 * 3600.0
    """Seconds that an event may wait for its run."""
    patience: float = 24 * 3600.0
    """Seconds after which a run that never ended no longer blocks the next."""


@dataclass(frozen=True)
class Decision:
    """The next state of a record; STARTING asks for a run."""

    record: Record
    state: State
    why: str


def severity(event: CloudEvent) -> Severity:
    """What the event says of itself, else what its type usually is."""
    told = event.text("severity")
    return next((s for s in SEVERITIES if s == told), USUAL.get(event.type, "info"))


def unwanted(event: CloudEvent, rules: Rules) -> str:
    """Why an event starts no run, whatever else happens; "" when it may."""
    if event.type not in rules.types:
        return f"type {event.type} starts no run"
    found = severity(event)
    if SEVERITIES.index(found) < SEVERITIES.index(rules.severity):
        return f"severity {found} is below {rules.severity}"
    return ""


def decide(records: Iterable[Record], rules: Rules, now: float) -> list[Decision]:
    """What to do next, for records of one model, the oldest first.

    Of the events that wait only the newest may start a run; a later `resolved` of the same source
    takes an event back.
    """
    known = list(records)
    decisions: list[Decision] = []
    wanted: list[Record] = []
    for record in known:
        if record.state in WAITING:
            why = unwanted(record.event, rules) or _taken_back(record, known, rules, now)
            if why:
                decisions.append(Decision(record, State.SKIPPED, why))
            else:
                wanted.append(record)
    for record in wanted[:-1]:
        why = f"superseded by event {wanted[-1].event.id}"
        decisions.append(Decision(record, State.SKIPPED, why))
    if wanted:
        why = _not_yet(known, rules, now)
        decisions.append(Decision(wanted[-1], State.HELD if why else State.STARTING, why))
    return decisions


def _taken_back(record: Record, known: Sequence[Record], rules: Rules, now: float) -> str:
    for other in known:
        if (
            other.event.type == RESOLVED
            and other.event.source == record.event.source
            and other.received >= record.received
        ):
            return f"resolved by event {other.event.id} before a run started"
    if now - record.received > rules.hold:
        return f"waited longer than {rules.hold:g} s for its run"
    return ""


def _not_yet(known: Sequence[Record], rules: Rules, now: float) -> str:
    for record in known:
        if record.state in ACTIVE and now - (record.started or now) <= rules.patience:
            return f"run {record.run or '(starting)'} for event {record.event.id} is active"
    ends = [r.finished for r in known if r.finished is not None and r.started is not None]
    # A clock that was set back must not stretch a cool-down beyond its length.
    left = min(max(ends) + rules.cooldown - now, rules.cooldown) if ends else 0.0
    return f"cool-down after the last run, {left:.0f} s left" if left > 0 else ""
