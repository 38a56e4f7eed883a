"""One observation: counts of the source, health of the data plane, and what is not known."""

from __future__ import annotations

from dataclasses import dataclass, replace

from serving.errors import SeatrialError
from serving.rollout.actuators.actuator import Health, Plane
from serving.rollout.gate.observation import Observation
from serving.rollout.run.memory import Memory
from serving.rollout.sources.source import Arms, Counts, MetricsSource


@dataclass(frozen=True)
class Seen:
    observation: Observation
    memory: Memory
    """With the watermark behind the observation's interval."""
    more: bool
    problem: str


def observe(source: MetricsSource, plane: Plane, arms: Arms, memory: Memory, now: float) -> Seen:
    """Never raises for a source or a plane that fails: what they would say is then unknown."""
    problems = []
    more, since = False, memory.source
    try:
        look = source.look(arms, since, now)
    except SeatrialError as error:
        problems.append(str(error))
        start = now if since is None else since.time
        counts = Counts(start, max(start, now), None, None)
    else:
        counts, more = look.counts, look.more
        memory = replace(memory, source=look.snapshot)
    try:
        health = plane.health(arms.stable, arms.canary)
    except SeatrialError as error:
        problems.append(str(error))
        # Not seen is not down; but nothing moves on while nobody knows how stable is.
        health = Health(stable_ready=False, canary_ready=True)
    else:
        memory = _with_restarts(memory, health)
    observation = Observation(
        start=counts.start,
        end=counts.end,
        stable=counts.stable,
        canary=counts.canary,
        score_edges=counts.score_edges,
        canary_ready=health.canary_ready,
        canary_restarts=memory.restarted,
        weight=health.weight,
        stable_ready=health.stable_ready,
    )
    return Seen(observation, memory, more, "; ".join(problems))


def _with_restarts(memory: Memory, health: Health) -> Memory:
    """Restarts since the run began; a pod that came during the run had none before it."""
    known = dict(health.restarts if memory.restarts is None else memory.restarts)
    added = 0
    for pod, count in health.restarts.items():
        added += max(0, count - known.get(pod, 0))
        known[pod] = max(count, known.get(pod, 0))
    return replace(memory, restarts=known, restarted=memory.restarted + added)
