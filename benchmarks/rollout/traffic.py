"""What a minute of traffic looks like to a gate, for many runs side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving.rollout.evidence import deciles

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LOOK_SECONDS = 60
DAY_LOOKS = 24 * 60
BUCKETS = 50
"""Score buckets, equally full at stable."""
BINS = 10
"""Most bins that stable's first minute is cut into."""
EDGES = tuple(i / BUCKETS for i in range(1, BUCKETS))
EDGES_AND_TOP = np.array([*EDGES, 1.0])
"""Upper edges of all buckets."""
MAX_RATE = 0.01
"""The SLO of every scenario: success 99 %, and 99 % of the answers in time."""


@dataclass(frozen=True)
class Scenario:
    name: str
    bad: bool
    """Whether promoting it is the mistake; otherwise rolling it back is."""
    errors: tuple[float, float] = (0.005, 0.005)
    """(stable, canary)."""
    slow: tuple[float, float] = (0.001, 0.001)
    top_decile_odds: float = 1.0
    """Odds ratio of the canary's scores in stable's top decile."""
    burst: int = 1
    """Errors with one cause, all on one arm."""
    diurnal: float = 0.0
    """Swing of the error rate over a day, as a part of it; every run begins at another hour."""
    stops: int | None = None
    """Looks after which there is no traffic."""


SCENARIOS = (
    Scenario("healthy", bad=False),
    Scenario("honest retrain (a decile at 11.3 %)", bad=False, top_decile_odds=1.15),
    Scenario("no errors at all in either arm", bad=False, errors=(0, 0), slow=(0, 0)),
    Scenario("both arms noisy (1.5 %)", bad=False, errors=(0.015, 0.015)),
    Scenario("diurnal error rate", bad=False, diurnal=0.8),
    Scenario("traffic stops, healthy", bad=False, stops=3),
    Scenario("bursty errors (5 at once), healthy", bad=False, burst=5),
    Scenario("errors 2× worse", bad=True, errors=(0.005, 0.01)),
    Scenario("errors 4× worse", bad=True, errors=(0.005, 0.02)),
    Scenario("slower only (2 % late, not 0.1 %)", bad=True, slow=(0.001, 0.02)),
    Scenario("score shift only (a decile at 20 %)", bad=True, top_decile_odds=2.25),
    Scenario("traffic stops, errors 4× worse", bad=True, errors=(0.005, 0.02), stops=3),
    Scenario("bursty errors (5 at once), 4× worse", bad=True, errors=(0.005, 0.02), burst=5),
)


@dataclass(frozen=True)
class Counts:
    """Of one look; each array has one row per run."""

    n_c: Ints
    n_s: Ints
    errors_c: Ints
    errors_s: Ints
    slow_c: Ints
    slow_s: Ints
    bins_c: Ints
    """Scores per bin of stable, shape [runs, BINS]; a run with fewer bins has zeros at the end."""
    bins_s: Ints
    score_c: Floats
    """Mean score; NaN without requests."""
    score_s: Floats


class Traffic:
    """`rate` requests per second, split by the weight that each run has.

    Look 0 has stable alone: its scores are the `reference` that `deciles` cuts into bins.
    """

    def __init__(self, scenario: Scenario, rate: int, runs: int, seed: int) -> None:
        self.scenario = scenario
        self.requests = rate * LOOK_SECONDS
        self.rng = np.random.default_rng(seed)
        self.hour = self.rng.random(runs)
        self.reference = self.rng.multinomial(self.requests, np.full(BUCKETS, 1 / BUCKETS), runs)
        self.cuts = [deciles(EDGES, row.tolist()) for row in self.reference]
        self.bins = np.array([len(cuts) + 1 for cuts in self.cuts])
        # Where each bucket goes: the shares and middles of the bins follow, per run.
        place = np.array([np.searchsorted(cuts, EDGES_AND_TOP) for cuts in self.cuts])
        member = place[:, None, :] == np.arange(BINS)[None, :, None]
        top = scenario.top_decile_odds * 0.1 / (0.9 + scenario.top_decile_odds * 0.1)
        moved = np.full(BUCKETS, (1 - top) / (0.9 * BUCKETS))
        moved[-BUCKETS // 10 :] = top / (0.1 * BUCKETS)
        self.shares_s = member @ np.full(BUCKETS, 1 / BUCKETS)
        self.shares_c = member @ moved
        middles = (np.arange(BUCKETS) + 0.5) / BUCKETS
        self.middles = (member @ middles) / np.maximum(member.sum(axis=2), 1)

    def look(self, index: int, weights: Floats, runs: Ints) -> Counts:
        """Counts of look `index` for the runs still going; weights are shares."""
        kind, rng = self.scenario, self.rng
        stopped = kind.stops is not None and index >= kind.stops
        n = 0 if stopped else self.requests
        n_c = rng.binomial(n, weights)
        n_s = n - n_c
        phase = 2 * math.pi * (index / DAY_LOOKS + self.hour[runs])
        swing = 1 + kind.diurnal * np.sin(phase)
        bins_c = rng.multinomial(n_c, self.shares_c[runs])
        bins_s = rng.multinomial(n_s, self.shares_s[runs])
        with np.errstate(invalid="ignore"):
            score_c = (bins_c * self.middles[runs]).sum(axis=1) / n_c
            score_s = (bins_s * self.middles[runs]).sum(axis=1) / n_s
        return Counts(
            n_c=n_c,
            n_s=n_s,
            errors_c=self._errors(n_c, kind.errors[1] * swing),
            errors_s=self._errors(n_s, kind.errors[0] * swing),
            slow_c=rng.binomial(n_c, kind.slow[1]),
            slow_s=rng.binomial(n_s, kind.slow[0]),
            bins_c=bins_c,
            bins_s=bins_s,
            score_c=score_c,
            score_s=score_s,
        )

    def _errors(self, n: Ints, rate: Floats) -> Ints:
        size = self.scenario.burst
        if size == 1:
            return self.rng.binomial(n, rate)
        return np.minimum(n, size * self.rng.poisson(n * rate / size))
