"""Plans tried on canaries that are described, before anything is touched. Seeded."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import median

import numpy as np
import numpy.typing as npt

from serving.errors import UsageError
from serving.rollout.gate.decide import decide
from serving.rollout.gate.observation import ArmCounts, LabelCohort, Observation
from serving.rollout.gate.plan import Labels, Plan
from serving.rollout.gate.state import Action, ActionKind, Model, Phase, approved, begin

EDGES = tuple(round(1 / (1 + math.exp(-x / 2)), 6) for x in range(-12, 13))
"""Of the simulated score buckets: half a logit wide."""
_MEAN, _SPREAD = -2.0, 1.5
"""Of the simulated scores' logits."""
_DECISIONS = (("approve", 0.5), ("decline", 1.0), ("review", 0.8))
_DAY = 86_400.0


@dataclass(frozen=True)
class ArmModel:
    """How an arm behaves. All rates are per request."""

    error_rate: float = 0.0
    slow_rate: float = 0.0
    wrong_rate: float = 0.0
    """Of the predictions whose labels have matured."""
    score_shift: float = 0.0
    """Logits by which the scores lie above the usual ones."""


@dataclass(frozen=True)
class Scenario:
    """Raises UsageError for traffic or bursts that cannot be."""

    traffic_per_second: float
    """Of both arms together."""
    stable: ArmModel = ArmModel()
    canary: ArmModel = ArmModel()
    burst: float = 1.0
    """Mean number of failures with one cause; 1 for independent ones."""
    traffic_stops_after: float = math.inf
    """Seconds."""

    def __post_init__(self) -> None:
        if not self.traffic_per_second > 0:
            raise UsageError(f"traffic of {self.traffic_per_second} requests/s; give more than 0")
        if not self.burst >= 1:
            raise UsageError(f"burst {self.burst} is below 1; 1 means independent failures")


@dataclass(frozen=True)
class Outcome:
    """How one simulated run was decided."""

    phase: Phase
    """PROMOTED, ROLLING_BACK or ASK."""
    seconds: float
    canary_requests: int
    canary_errors: int
    share: int
    """The highest that the canary had."""
    reason: str


@dataclass(frozen=True)
class Summary:
    """Shares of the runs, and medians over all of them."""

    runs: int
    promoted: float
    rolled_back: float
    asked: float
    seconds: float
    canary_requests: float
    canary_errors: float


def simulate(
    plan: Plan, scenario: Scenario, *, runs: int = 100, seed: int = 0, coarse: float = 0.0
) -> list[Outcome]:
    """The plan's decisions on `runs` independent runs of the scenario.

    With `coarse` looks come rarer as a run grows, one per that share of its time so far: faster
    to compute, and later to decide by that share at most.
    """
    seeds = np.random.SeedSequence(seed).spawn(runs)
    return [_run(plan, scenario, np.random.default_rng(one), coarse) for one in seeds]


def summary(outcomes: Sequence[Outcome]) -> Summary:
    def part(phase: Phase) -> float:
        return sum(outcome.phase is phase for outcome in outcomes) / len(outcomes)

    return Summary(
        runs=len(outcomes),
        promoted=part(Phase.PROMOTED),
        rolled_back=part(Phase.ROLLING_BACK),
        asked=part(Phase.ASK),
        seconds=median(outcome.seconds for outcome in outcomes),
        canary_requests=median(outcome.canary_requests for outcome in outcomes),
        canary_errors=median(outcome.canary_errors for outcome in outcomes),
    )


def compare(
    plans: Mapping[str, Plan],
    scenarios: Mapping[str, Scenario],
    *,
    runs: int = 100,
    seed: int = 0,
) -> dict[str, dict[str, Summary]]:
    """By plan and scenario. Equal seeds: the plans differ, the luck does not."""
    return {
        name: {
            title: summary(simulate(plan, scenario, runs=runs, seed=seed))
            for title, scenario in scenarios.items()
        }
        for name, plan in plans.items()
    }


def _run(plan: Plan, scenario: Scenario, random: np.random.Generator, coarse: float) -> Outcome:
    """One run up to its decision; the data plane obeys at once and approvals are given."""
    state = begin(
        plan,
        run="simulated",
        service="simulated",
        stable=Model("stable", "", ""),
        canary=Model(plan.canary, "", ""),
    )
    for step in plan.approvals:
        state = approved(state, plan, step)
    now, requests, errors, highest = 0.0, 0, 0, 0
    labels = plan.metric("labels")
    days = labels.mature_days if isinstance(labels, Labels) else None
    past: deque[tuple[float, int, int]] = deque()
    weight = 0
    while True:
        span = max(plan.look_seconds, coarse * now)
        end = now + span
        rate = scenario.traffic_per_second if now < scenario.traffic_stops_after else 0.0
        n = int(random.poisson(rate * span))
        n_c = int(random.binomial(n, weight / 100))
        old = (0, 0)
        if days is not None:
            past.append((end, n_c, n - n_c))
            old = _matured(past, end - days * _DAY)
        canary = _arm(scenario.canary, n_c, scenario.burst, random)
        stable = _arm(scenario.stable, n - n_c, scenario.burst, random)
        if days is not None:
            canary = _labelled(canary, scenario.canary, days, old[0], random)
            stable = _labelled(stable, scenario.stable, days, old[1], random)
        observation = Observation(now, end, stable, canary, EDGES, True, 0, weight)
        requests, errors = requests + n_c, errors + canary.errors
        state, action, reason = decide(plan, state, observation)
        weight = _obeyed(action, weight)
        highest, now = max(highest, weight), end
        if state.phase in (Phase.PROMOTED, Phase.ROLLING_BACK, Phase.ASK):
            return Outcome(state.phase, now, requests, errors, highest, reason)


def _obeyed(action: Action, weight: int) -> int:
    if action.kind is ActionKind.HOLD:
        return weight
    if action.kind is ActionKind.PROMOTE:
        return 100
    return action.weight or 0


def _matured(past: deque[tuple[float, int, int]], until: float) -> tuple[int, int]:
    """Requests of (canary, stable) whose labels came by now; each is given once."""
    ours = theirs = 0
    while past and past[0][0] <= until:
        _, n_c, n_s = past.popleft()
        ours, theirs = ours + n_c, theirs + n_s
    return ours, theirs


def _labelled(
    arm: ArmCounts, model: ArmModel, days: int, old: int, random: np.random.Generator
) -> ArmCounts:
    wrong = int(random.binomial(old, model.wrong_rate))
    return replace(arm, labels=(LabelCohort(days, old, wrong),) if old else ())


def _arm(model: ArmModel, n: int, burst: float, random: np.random.Generator) -> ArmCounts:
    scores = random.multinomial(n, _buckets(model.score_shift))
    decisions, before = [], 0
    for name, below in sorted(_DECISIONS, key=lambda pair: pair[1]):
        until = sum(edge <= below for edge in EDGES) + (below == 1.0)
        decisions.append((name, int(scores[before:until].sum())))
        before = until
    return ArmCounts(
        requests=n,
        errors=_events(n, model.error_rate, burst, random),
        slow=_events(n, model.slow_rate, burst, random),
        scores=tuple(int(count) for count in scores),
        decisions=tuple(sorted(decisions)),
    )


def _events(n: int, rate: float, burst: float, random: np.random.Generator) -> int:
    if burst == 1:
        return int(random.binomial(n, rate))
    # Geometric bursts of that mean, as many as keep the rate.
    sizes = random.geometric(1 / burst, size=int(random.poisson(n * rate / burst)))
    return min(n, int(sizes.sum()))


@lru_cache(maxsize=64)
def _buckets(shift: float) -> npt.NDArray[np.float64]:
    """Probabilities of the score buckets: a normal law on the logits."""
    below = [
        0.5 * (1 + math.erf((math.log(e / (1 - e)) - _MEAN - shift) / _SPREAD / math.sqrt(2)))
        for e in EDGES
    ]
    return np.diff([0.0, *below, 1.0])
