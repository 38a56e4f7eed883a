"""The gate, many runs at once: what `decide` does on the same counts, which a test proves."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from benchmarks.rollout.tools import STEPS, Flags, Verdict
from benchmarks.rollout.traffic import BINS, LOOK_SECONDS, MAX_RATE, Counts, Floats, Ints, Traffic
from serving.rollout.evidence import PSIS, log_mean_power, threshold
from serving.rollout.evidence.absolute import BETTER
from serving.rollout.evidence.shift import BEYOND, WITHIN, odds_ratios
from serving.rollout.gate.plan import Plan, parse_plan
from serving.rollout.gate.rates import (
    AGAINST_SLO,
    AGAINST_STABLE,
    DOUBT,
    SINCE_STEP,
    WHOLE_RUN,
)

PLAN = parse_plan(
    {
        "canary": "v2",
        "steps": [10, 20, 30, 40, 50],
        "min_seconds": LOOK_SECONDS,
        "look_seconds": LOOK_SECONDS,
        "metrics": [
            {"kind": "errors", "max_rate": MAX_RATE, "alpha_share": 0.45},
            {"kind": "latency", "slo_seconds": 0.5, "max_rate": MAX_RATE, "alpha_share": 0.45},
            {"kind": "scores", "tolerance": 1.5, "alpha_share": 0.1},
        ],
    },
    "benchmarks/rollout",
)
"""alpha, beta, psi_max, dispersion and the minimum of requests are the defaults of production."""

SETTLED = 7.0
"""ln E past the threshold of a shift from which a run counts as held: e^7 : 1 never comes back."""

_ODDS = np.array([*PSIS, PLAN.psi_max])


class Powers:
    """log_mean_power at fixed odds ratios and a fixed total of requests, remembered."""

    def __init__(self, requests: int, odds: Floats) -> None:
        self.requests, self.odds = requests, odds
        most = requests // 2 if requests <= 2000 else 0
        self.table = np.full((requests + 1 if most else 0, most + 1, len(odds)), np.nan)

    def __call__(self, n_c: Ints, e: Ints) -> Floats:
        """Shape of n_c (and e) with the odds ratios as one more axis."""
        if not self.table.size or int(e.max(initial=0)) >= self.table.shape[1]:
            return self._fresh(n_c, e)
        flat_n, flat_e = n_c.ravel(), e.ravel()
        missing = np.isnan(self.table[flat_n, flat_e, 0])
        if missing.any():
            pairs = np.unique(np.stack([flat_n[missing], flat_e[missing]]), axis=1)
            self.table[pairs[0], pairs[1]] = self._fresh(pairs[0], pairs[1])
        found: Floats = self.table[n_c, e]
        return found

    def _fresh(self, n_c: Ints, e: Ints) -> Floats:
        n_s = self.requests - n_c
        return log_mean_power(n_c[..., None], n_s[..., None], e[..., None], self.odds)


@dataclass
class Bursts:
    """Overdispersion, per run."""

    n: Floats
    e: Floats
    squares: Floats
    expected: Floats
    weights: Floats

    @classmethod
    def fresh(cls, runs: int) -> Bursts:
        return cls(*(np.zeros(runs) for _ in fields(cls)))

    def add(self, n: Floats, e: Floats) -> None:
        some, pair = n > 0, (n > 0) & (self.n > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            both = self.e + e
            expected = np.where(pair, both * (1 - both / (self.n + n)), 0.0)
            square = np.where(pair, (self.e * n - e * self.n) ** 2 / (n * self.n), 0.0)
        self.squares, self.expected = self.squares + square, self.expected + expected
        self.weights = self.weights + expected**2
        self.n, self.e = np.where(some, n, self.n), np.where(some, e, self.e)

    @property
    def phi(self) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self.squares / self.expected
            known = 1 + (ratio - 1) * (1 + np.sqrt(2 * self.weights) / self.expected)
        return np.maximum(1.0, np.where(self.expected > 0, known, self.e))

    def keep(self, going: Flags) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[going])


class Rate:
    """RateProof, per run."""

    def __init__(self, runs: int, requests: int) -> None:
        self.powers = Powers(requests, _ODDS)
        self.bad, self.at_step = np.zeros((runs, len(PSIS))), np.zeros((runs, len(PSIS)))
        self.good, self.absolute = np.zeros(runs), np.zeros((runs, len(BETTER)))
        self.bursts = Bursts.fresh(runs)

    def add(self, n_c: Ints, x: Ints, n_s: Ints, s: Ints) -> None:
        gains = x[:, None] * np.log(_ODDS) - self.powers(n_c, x + s)
        gains[(n_c == 0) | (n_s == 0)] = 0.0
        self.bad, self.good = self.bad + gains[:, :-1], self.good - gains[:, -1]
        self.absolute = self.absolute + np.stack(
            [_binomial(n_c, x, share * MAX_RATE) for share, _ in BETTER], axis=1
        )
        self.bursts.add((n_c + n_s).astype(np.float64), (x + s).astype(np.float64))

    def log_bad(self, phi: Floats) -> Floats:
        run = np.log(WHOLE_RUN) + _log_mean(self.bad / phi[:, None])
        step = np.log(SINCE_STEP / len(STEPS)) + self.since_step(phi)
        found: Floats = np.logaddexp(run, step)
        return found

    def since_step(self, phi: Floats) -> Floats:
        return _log_mean((self.bad - self.at_step) / phi[:, None])

    def log_good(self, phi: Floats, last: Flags) -> Floats:
        """`last`: the step is left for the promotion, which asks for a mean of both proofs."""
        weights = np.log([weight for _, weight in BETTER])
        absolute = np.logaddexp.reduce(self.absolute / phi[:, None] + weights, axis=1)
        relative = self.good / phi
        mean = np.logaddexp(relative + np.log(AGAINST_STABLE), absolute + np.log(AGAINST_SLO))
        return np.where(last, mean, np.maximum(relative, absolute))

    def keep(self, going: Flags) -> None:
        self.bad, self.at_step = self.bad[going], self.at_step[going]
        self.good, self.absolute = self.good[going], self.absolute[going]
        self.bursts.keep(going)


class Shift:
    """ShiftProof of the scores, per run."""

    def __init__(self, runs: int, traffic: Traffic, tolerance: float) -> None:
        self.odds = odds_ratios(tolerance)
        self.powers = Powers(traffic.requests, np.concatenate([self.odds, 1 / self.odds]))
        self.bins = traffic.bins
        self.beyond = np.zeros((runs, 2, BINS, len(BEYOND)))
        self.within = np.zeros((runs, 2, BINS, len(WITHIN)))
        self.bursts = Bursts.fresh(runs)

    def add(self, bins_c: Ints, bins_s: Ints) -> None:
        n_c, n_s = bins_c.sum(axis=1), bins_s.sum(axis=1)
        seen = np.flatnonzero((n_c > 0) & (n_s > 0))
        if len(seen) == 0:
            return
        x, e = bins_c[seen], bins_c[seen] + bins_s[seen]
        odds = self.powers.odds
        totals = np.broadcast_to(n_c[seen][:, None], x.shape)
        logs = x[..., None] * np.log(odds) - self.powers(totals, e)
        logs = np.stack([logs[..., : len(self.odds)], logs[..., len(self.odds) :]], axis=1)
        gains = logs[..., 1:] - logs[..., :1]
        self.beyond[seen] += gains[..., : len(BEYOND)]
        self.within[seen] += gains[..., len(BEYOND) :]
        middle = (self.bins + 1) // 2
        above = np.where(np.arange(BINS) >= middle[:, None], bins_c + bins_s, 0).sum(axis=1)
        both = np.where((n_c > 0) & (n_s > 0), n_c + n_s, 0)
        self.bursts.add(both.astype(np.float64), above.astype(np.float64))

    def verdicts(self) -> tuple[Floats, Floats]:
        """ln E of a shift, and of none."""
        phi = self.bursts.phi[:, None, None, None]
        used = (np.arange(BINS) < self.bins[:, None])[:, None, :]
        beyond = np.where(used[..., None], self.beyond / phi, -np.inf)
        found = np.logaddexp.reduce(beyond, axis=(1, 2, 3))
        within = _log_mean(self.within / phi)
        clear = np.where(used, within, np.inf).min(axis=(1, 2))
        return found - np.log(2 * self.bins * len(BEYOND)), clear

    def keep(self, going: Flags) -> None:
        self.bins, self.beyond = self.bins[going], self.beyond[going]
        self.within = self.within[going]
        self.bursts.keep(going)


class Gate:
    """`decide` with PLAN from the PENDING and the DARK look to promotion, rollback or the cap."""

    WARM_UP = 2

    def __init__(self, runs: int, traffic: Traffic, plan: Plan = PLAN) -> None:
        self.plan = plan
        self.rates = tuple(Rate(runs, traffic.requests) for _ in range(2))
        self.scores = Shift(runs, traffic, plan.metrics[2].tolerance)  # type: ignore[union-attr]
        self.looks = 0
        self.step = np.zeros(runs, np.int64)
        self.in_step, self.requests = np.zeros(runs, np.int64), np.zeros(runs, np.int64)

    def weights(self) -> Floats:
        return np.where(self.looks < self.WARM_UP, 0.0, STEPS[self.step])

    def look(self, counts: Counts) -> Ints:
        errors, slow = self.rates
        if int(counts.n_c.max() + counts.n_s.max()):
            errors.add(counts.n_c, counts.errors_c, counts.n_s, counts.errors_s)
            slow.add(counts.n_c, counts.slow_c, counts.n_s, counts.slow_s)
            self.scores.add(counts.bins_c, counts.bins_s)
        self.looks += 1
        if self.looks <= self.WARM_UP:
            return np.zeros(len(self.step), np.int64)
        return self._judged(counts)

    def _judged(self, counts: Counts) -> Ints:
        # The first look of a step only shows that the share is there; then time and requests count.
        self.requests += np.where(self.in_step > 0, counts.n_c, 0)
        waited = self.in_step * LOOK_SECONDS
        self.in_step += 1
        worse, held = np.zeros(len(self.step), bool), np.zeros(len(self.step), bool)
        good_at, last = threshold(self.plan.beta), self.step == len(STEPS) - 1
        for kind, rate in zip(("errors", "latency"), self.rates, strict=True):
            phi = rate.bursts.phi
            worse |= rate.log_bad(phi) >= threshold(self.plan.alpha_of(kind))
            held |= (rate.since_step(phi) >= DOUBT) | (rate.log_good(phi, last) < good_at)
        moved, within = self.scores.verdicts()
        against_at = threshold(self.plan.alpha_of("scores"))
        held |= (moved >= against_at) | (within < good_at) | (counts.n_c == 0) | (counts.n_s == 0)
        held |= (waited < self.plan.min_seconds) | (self.requests < self.plan.min_requests)
        on = ~worse & ~held
        promoted = on & last
        self._enter(on & ~promoted)
        settled = ~worse & (moved >= against_at + SETTLED)
        return np.select(
            [worse, promoted, settled],
            [int(Verdict.ROLLED_BACK), int(Verdict.PROMOTED), int(Verdict.HELD)],
            int(Verdict.RUNNING),
        )

    def _enter(self, on: Flags) -> None:
        self.step = self.step + on
        self.in_step, self.requests = np.where(on, 0, self.in_step), np.where(on, 0, self.requests)
        for rate in self.rates:
            rate.at_step = np.where(on[:, None], rate.bad, rate.at_step)

    def keep(self, going: Flags) -> None:
        self.step, self.in_step = self.step[going], self.in_step[going]
        self.requests = self.requests[going]
        for rate in self.rates:
            rate.keep(going)
        self.scores.keep(going)


def _log_mean(logs: npt.NDArray[np.float64]) -> Floats:
    found: Floats = np.logaddexp.reduce(logs, axis=-1) - np.log(logs.shape[-1])
    return found


def _binomial(n: Ints, x: Ints, p: float) -> Floats:
    if p == 0:
        return np.where(x > 0, -np.inf, -n * np.log1p(-MAX_RATE))
    found: Floats = x * np.log(p / MAX_RATE) + (n - x) * (np.log1p(-p) - np.log1p(-MAX_RATE))
    return found
