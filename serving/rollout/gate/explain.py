"""What a plan will do with today's traffic, in plain words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from serving.rollout.evidence.absolute import BETTER
from serving.rollout.gate.plan import Plan, RateMetric, ShiftMetric
from serving.rollout.gate.simulate import ArmModel, Outcome, Scenario, simulate
from serving.rollout.gate.state import Phase

RUNS = 20
_COARSE = 0.02
"""A look per 2 % of a simulated run: as exact as its sentence is."""


@dataclass(frozen=True)
class Expectation:
    """Of one kind of canary: how many of RUNS ended how, and the medians of those."""

    title: str
    outcomes: tuple[Outcome, ...]

    def sentence(self) -> str:
        parts = []
        for phase, word in (
            (Phase.PROMOTED, "promoted"),
            (Phase.ROLLING_BACK, "rolled back"),
            (Phase.ASK, "left to a person"),
        ):
            some = sorted(o.seconds for o in self.outcomes if o.phase is phase)
            if some:
                counts = sorted(o.canary_requests for o in self.outcomes if o.phase is phase)
                middle = len(some) // 2
                parts.append(
                    f"{word} in {len(some)} of {len(self.outcomes)} simulated runs, after"
                    f" {_time(some[middle])} and {_round(counts[middle]):,} canary requests"
                    " (median)"
                )
        return f"{self.title}: {'; '.join(parts)}."


def expectations(
    plan: Plan,
    traffic_per_second: float,
    error_rate: float,
    *,
    slow_rate: float = 0.0,
    runs: int = RUNS,
    seed: int = 0,
) -> list[Expectation]:
    """Of a canary like stable and of one twice as bad (as the SLO, if stable never fails)."""
    usual = ArmModel(error_rate=error_rate, slow_rate=slow_rate)
    canaries = {"A canary as good as stable": usual}
    if error_rate or slow_rate:
        canaries["A canary 2x worse than stable"] = ArmModel(
            error_rate=min(1.0, 2 * error_rate), slow_rate=min(1.0, 2 * slow_rate)
        )
    else:
        worst = max((m.max_rate for m in plan.metrics if isinstance(m, RateMetric)), default=0.01)
        canaries["A canary that fails at twice the SLO's rate"] = ArmModel(error_rate=2 * worst)
    found = []
    for title, canary in canaries.items():
        scenario = Scenario(traffic_per_second, usual, canary)
        outcomes = simulate(plan, scenario, runs=runs, seed=seed, coarse=_COARSE)
        found.append(Expectation(title, tuple(outcomes)))
    return found


def explain(
    plan: Plan,
    traffic_per_second: float,
    error_rate: float,
    *,
    slow_rate: float = 0.0,
    runs: int = RUNS,
    seed: int = 0,
) -> str:
    """Lines for a person. The times are medians of seeded runs of the gate itself.

    Raises UsageError for traffic that is not above 0.
    """
    shares = " -> ".join(f"{share} %" for share in plan.steps)
    lines = [
        f"Canary '{plan.canary}': 0 % -> {shares} -> promoted.",
        (
            f"Each step takes {_time(plan.min_seconds)} and {plan.min_requests:,} canary requests"
            f" at least; a look every {_time(plan.look_seconds)}."
        ),
        (
            f"A good canary is rolled back with a chance of {plan.alpha:.2%} at most, a bad one"
            f" promoted with {plan.beta:.2%} at most, however often one looks."
        ),
        f"Bad: {plan.psi_max:g} times stable's odds of failing, and outside its SLO.",
    ]
    lines += [f"- {_metric(plan, metric.kind)}" for metric in plan.metrics]
    if plan.sticky is not None:
        lines.append(
            f"A user, by header '{plan.sticky.header}', never goes back to stable while the share"
            " rises; requests without it are drawn one by one."
        )
    if plan.approvals:
        steps = ", ".join(f"{share} %" for share in plan.approvals)
        lines.append(f"A person must approve {steps}.")
    lines.append(
        f"Without a decision after {_time(plan.time_cap_seconds)} the canary goes to 0 % and a"
        " person is asked. No data holds."
    )
    lines.append(f"With {traffic_per_second:g} requests/s, of which stable fails {error_rate:.3%}:")
    found = expectations(
        plan, traffic_per_second, error_rate, slow_rate=slow_rate, runs=runs, seed=seed
    )
    return "\n".join([*lines, *(f"- {one.sentence()}" for one in found)]) + "\n"


def clean_requests(max_rate: float, beta: float) -> int:
    """Requests without one event after which the rate is proven below `max_rate`.

    The least n with sum of weight ((1-p)/(1-max_rate))^n >= 1/beta, by bisection.
    """

    def evidence(n: int) -> float:
        return math.fsum(
            weight * math.exp(n * (math.log1p(-share * max_rate) - math.log1p(-max_rate)))
            for share, weight in BETTER
        )

    # Half of the weight is on p = 0, which alone is enough at `high`.
    low, high = 0, math.ceil(-math.log(beta / 2) / max_rate)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if evidence(middle) >= 1 / beta else (middle + 1, high)
    return low


def _metric(plan: Plan, kind: str) -> str:
    metric = plan.metric(kind)
    alpha = f"its part of alpha is {plan.alpha_of(kind):.2%}"
    if isinstance(metric, ShiftMetric):
        return f"{kind}: held while it may be past an odds ratio of {metric.tolerance:g}; {alpha}"
    if not isinstance(metric, RateMetric):
        raise KeyError(kind)
    clean = clean_requests(metric.max_rate, plan.beta)
    what = {
        "errors": "failed",
        "latency": f"slower than {plan.slo_seconds:g} s" if plan.slo_seconds else "slow",
        "labels": "wrong",
    }[kind]
    return (
        f"{kind}: at most {metric.max_rate:.2%} {what}; {clean:,} canary requests without one"
        f" prove it; {alpha}"
    )


def _time(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:g} s"


def _round(count: int) -> int:
    """Two digits: more would be the simulation's luck."""
    size = int(10 ** max(0, len(str(count)) - 2))
    return round(count / size) * size
