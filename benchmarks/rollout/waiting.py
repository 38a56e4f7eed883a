"""How long a proof takes on a healthy canary, against a test whose sample is fixed beforehand."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats

from benchmarks.rollout.gate import PLAN, Rate
from benchmarks.rollout.traffic import MAX_RATE
from serving.rollout.evidence import threshold

WEIGHT = 0.1
POWER = 0.8
_MOST = 400


@dataclass(frozen=True)
class Waiting:
    """Canary requests until errors are proven, the canary at 10 %."""

    rate: int
    look_seconds: float
    error_rate: float
    dispersion: str
    """phi: 'estimated' while running, or 'declared' as 1 in the plan."""
    median: float
    p95: float
    fixed_relative: int | None
    """Fixed sample: odds below psi_max times stable's; None where nothing ever fails."""
    fixed_absolute: int
    """Fixed sample: rate below the SLO's maximum."""

    @property
    def ratio(self) -> float:
        """The median against the shorter of the two fixed samples, which ends with a look too."""
        known = [n for n in (self.fixed_relative, self.fixed_absolute) if n is not None]
        look = self.rate * self.look_seconds * WEIGHT
        return self.median / (look * math.ceil(min(known) / look))

    def to_json(self) -> dict[str, float | str | None]:
        return {**asdict(self), "ratio": self.ratio}


def waiting(
    rate: int, look_seconds: float, error_rate: float, dispersion: str, *, runs: int, seed: int
) -> Waiting:
    rng = np.random.default_rng(seed)
    requests = round(rate * look_seconds)
    proof, needed = Rate(runs, requests), np.full(runs, np.inf)
    nobody = np.zeros(runs, np.int64)
    for _ in range(2):  # the looks before the canary's first share
        everyone = np.full(runs, requests)
        proof.add(nobody, nobody, everyone, rng.binomial(requests, error_rate, runs))
    sent = np.zeros(runs)
    for _ in range(_MOST * 10):
        n_c = rng.binomial(requests, WEIGHT, runs)
        n_s = requests - n_c
        proof.add(n_c, rng.binomial(n_c, error_rate), n_s, rng.binomial(n_s, error_rate))
        sent += n_c
        phi = proof.bursts.phi if dispersion == "estimated" else np.ones(runs)
        proven = proof.log_good(phi, np.ones(runs, bool)) >= threshold(PLAN.beta)
        needed = np.where(proven & np.isinf(needed), sent, needed)
        if np.isfinite(needed).mean() >= 0.97:
            break
    return Waiting(
        rate=rate,
        look_seconds=look_seconds,
        error_rate=error_rate,
        dispersion=dispersion,
        median=float(np.median(needed)),
        p95=float(np.quantile(needed, 0.95, method="higher")),
        fixed_relative=fixed_relative(error_rate) if error_rate else None,
        fixed_absolute=fixed_absolute(error_rate),
    )


def fixed_absolute(error_rate: float) -> int:
    """Fewest canary requests with which the exact binomial test of "MAX_RATE or more" at level
    beta has POWER."""

    def power(n: int) -> float:
        most = int(stats.binom.ppf(PLAN.beta, n, MAX_RATE))
        if stats.binom.cdf(most, n, MAX_RATE) > PLAN.beta:
            most -= 1
        return float(stats.binom.cdf(most, n, error_rate)) if most >= 0 else 0.0

    return next(n for n in range(1, 100_000) if power(n) >= POWER)


def fixed_relative(error_rate: float) -> int:
    """Fewest canary requests with which the conditional test of "psi_max times worse" has POWER.

    Events are rare: given e of both arms the canary's are binomial, and e is Poisson.
    """
    worse = PLAN.psi_max * WEIGHT / (1 - WEIGHT + PLAN.psi_max * WEIGHT)
    events = np.arange(1, _MOST)
    most = stats.binom.ppf(PLAN.beta, events, worse)
    most = np.where(stats.binom.cdf(most, events, worse) > PLAN.beta, most - 1, most)
    given = np.where(most >= 0, stats.binom.cdf(most, events, WEIGHT), 0.0)
    per_request = error_rate / WEIGHT
    return next(
        n
        for n in range(1, 100_000)
        if float(stats.poisson.pmf(events, n * per_request) @ given) >= POWER
    )
