"""From two readings of counters to the counts of the interval between them. Pure.

Both arms are read over the same span or not at all: counts of one arm that belong to an earlier
time could make it look worse for no fault of its own. So a pod that does not answer keeps the
interval open, for PATIENCE looks; then the interval closes without that pod, and what it counts
until it answers again is left out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from serving.rollout.gate.observation import ArmCounts, LabelCohort
from serving.rollout.sources.counters import PodCounters
from serving.rollout.sources.source import Counts, Look, Snapshot

Labels = Mapping[int, tuple[int, int]]

PATIENCE = 2
JITTER_S = 1.0
"""A process's start time is reckoned from its host's clock, which is corrected now and then."""


@dataclass(frozen=True)
class Reading:
    """Every pod that was asked, at one moment."""

    time: float
    """Unix seconds of the last answer."""
    pods: Mapping[str, PodCounters]
    silent: Collection[str] = ()
    """Pods that exist and did not answer."""
    skews: Mapping[str, float] = field(default_factory=dict)
    """By pod: seconds by which its clock is ahead of this reading's."""


def close_interval(since: Snapshot | None, now: Reading) -> Look:
    """The interval from `since` to `now`, and the snapshot at which the next one begins."""
    if since is None:
        first = Snapshot(now.time, dict(now.pods), lost=frozenset(now.silent))
        return Look(Counts(now.time, now.time, None, None), first)
    # A clock that was set back must not turn an interval around.
    end = max(since.time, now.time)
    silent = [name for name in now.silent if name in since.pods]
    if silent and since.missed < PATIENCE:
        waiting = replace(since, missed=since.missed + 1)
        return Look(Counts(since.time, end, None, None), waiting)
    counted: dict[str, list[PodCounters]] = {"stable": [], "canary": []}
    kept: dict[str, PodCounters] = {}
    for name, pod in now.pods.items():
        before = _before(since, name, pod, now.skews.get(name, 0.0))
        if before is None:
            kept[name] = pod
            continue
        if name in since.pods:
            # Labels are counted by a process of its own, which did not restart with this one.
            before = replace(before, labels=since.pods[name].labels)
        increment, kept[name] = _increment(before, pod)
        counted[pod.role].append(increment)
    edges = _common_edges(pod for pods in counted.values() for pod in pods)
    counts = Counts(
        since.time,
        end,
        _arm(counted["stable"], edges),
        _arm(counted["canary"], edges),
        edges,
    )
    lost = {name for name in now.silent if name in since.pods or name in since.lost}
    fresh = frozenset(now.silent) - lost
    return Look(counts, Snapshot(end, kept, fresh, frozenset(lost)))


def _before(since: Snapshot, name: str, pod: PodCounters, skew: float) -> PodCounters | None:
    """What to subtract; None if it is unknown since when this pod has been counting."""
    nothing = PodCounters(pod.role, pod.started)
    # Seconds from the interval's begin to its own.
    began = -math.inf if pod.started is None else pod.started - skew - since.time
    before = since.pods.get(name)
    if before is None:
        return nothing if name in since.fresh or began >= 0 else None
    restarted = began > -JITTER_S and _moved(before.started, pod.started)
    return nothing if restarted or _has_fallen(before, pod) else before


def _moved(before: float | None, now: float | None) -> bool:
    return before is not None and now is not None and abs(now - before) > JITTER_S


def _has_fallen(before: PodCounters, now: PodCounters) -> bool:
    return (
        now.requests < before.requests
        or now.errors < before.errors
        or now.slow < before.slow
        or any(now.decisions.get(name, 0) < n for name, n in before.decisions.items())
        or (now.edges == before.edges and any(map(int.__lt__, now.scores, before.scores)))
    )


def _increment(before: PodCounters, now: PodCounters) -> tuple[PodCounters, PodCounters]:
    """(what is new, the totals that have been counted with it).

    A scrape does not read all counters in one instant, so a request may be in one of them and not
    yet in another. An error without its request is left for the next interval.
    """
    requests = now.requests - before.requests
    errors = min(now.errors - before.errors, requests)
    slow = min(now.slow - before.slow, requests)
    same = now.edges == before.edges
    increment = replace(
        now,
        requests=requests,
        errors=errors,
        slow=slow,
        scores=tuple(b - a for a, b in zip(before.scores, now.scores, strict=True))
        if same and before.scores
        else now.scores,
        decisions={name: n - before.decisions.get(name, 0) for name, n in now.decisions.items()},
        labels=_new_labels(before.labels, now.labels),
    )
    # Labels that were not heard of now are counted when they are again.
    labels = before.labels if now.labels is None else now.labels
    counted = replace(now, errors=before.errors + errors, slow=before.slow + slow, labels=labels)
    return increment, counted


def _new_labels(before: Labels | None, now: Labels | None) -> Labels:
    """What came since; nothing where one of the two is not known. Where right or wrong ones have
    become fewer, who counts them has begun anew."""
    if before is None or now is None:
        return {}
    ages = {*before, *now}
    pairs = {age: (before.get(age, (0, 0)), now.get(age, (0, 0))) for age in ages}
    if any(b[1] > a[1] or b[0] - b[1] > a[0] - a[1] for b, a in pairs.values()):
        return now
    return {age: (a[0] - b[0], a[1] - b[1]) for age, (b, a) in pairs.items()}


def _common_edges(pods: Iterable[PodCounters]) -> tuple[float, ...]:
    """() where two pods cut scores differently: such counts cannot be compared."""
    found = {pod.edges for pod in pods if pod.edges}
    return found.pop() if len(found) == 1 else ()


def _arm(pods: list[PodCounters], edges: tuple[float, ...]) -> ArmCounts | None:
    if not pods:
        return None
    scores = (0,) * (len(edges) + 1) if edges else ()
    decisions: dict[str, int] = {}
    labels: dict[int, tuple[int, int]] = {}
    for pod in pods:
        if edges and pod.edges:
            scores = tuple(a + b for a, b in zip(scores, pod.scores, strict=True))
        for name, n in pod.decisions.items():
            decisions[name] = decisions.get(name, 0) + n
        for age, (n, wrong) in (pod.labels or {}).items():
            total, missed = labels.get(age, (0, 0))
            labels[age] = (total + n, missed + wrong)
    return ArmCounts(
        requests=sum(pod.requests for pod in pods),
        errors=sum(pod.errors for pod in pods),
        slow=sum(pod.slow for pod in pods),
        scores=scores,
        decisions=tuple(sorted(decisions.items())),
        labels=tuple(LabelCohort(age, n, w) for age, (n, w) in sorted(labels.items()) if n),
    )
