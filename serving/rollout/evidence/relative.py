"""Is the canary worse than stable? Two e-processes on the events of both arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from serving.errors import UsageError
from serving.rollout.evidence.counts import check_counts, check_dispersion
from serving.rollout.evidence.hypergeometric import log_mean_power
from serving.rollout.evidence.mixture import log_mean

PSIS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Odds ratios that the evidence of a worse canary is averaged over."""


@dataclass(frozen=True)
class RelativeEvidence:
    """Likelihood ratios of Fisher's noncentral hypergeometric law, multiplied over intervals.

    In one interval, given the past, both arms' requests and the number of events that both arms had
    together, the canary's events X follow Fisher's noncentral hypergeometric law with the odds
    ratio psi of the arms. The error rate and the traffic split have dropped out, so both may change
    as they like, the split even in answer to earlier evidence (conditional 2x2 tests: Turner, Ly &
    Grünwald 2021; sequential counts with unknown baselines: Lindon & Malek, NeurIPS 2022).

    The law asks that requests of one arm and interval fail independently with one rate. Where they
    differ in their rates, a split made blindly per request still makes psi = 1 exact: which of the
    failures went to the canary is a draw without replacement. Bursts break it; see Overdispersion.

    bad, H0 "psi <= 1": the factor psi_1^X / E_1[psi_1^X] has expectation 1 at psi = 1. It rises in
    X and the law rises in psi (monotone likelihood ratio), so at any psi <= 1, another in every
    interval if need be, the expectation is at most 1: a nonnegative supermartingale that starts at
    1. The average over `psis` is one too.

    good, H0 "psi >= psi_max": the likelihood ratio of psi = 1 against psi = psi_max falls in X, so
    psi_max is the end of the null where its expectation is largest, and it is 1 there.

    `phi` is the overdispersion that `log_e_*` are read with: each component's power 1/phi. For
    phi >= 1 the mean of powers is at most the power of the mean, so a crossing with any phi, even
    one estimated from the same data, is a crossing without: dividing costs time, never validity.
    """

    psi_max: float = 2.0
    psis: tuple[float, ...] = PSIS
    phi: float = 1.0
    log_bad: tuple[float, ...] = ()
    """ln E per psi, not yet divided by phi."""
    log_good: float = 0.0
    """ln E at psi_max, not yet divided by phi."""

    def __post_init__(self) -> None:
        check_dispersion(self.phi)
        if not self.psi_max > 1 or not self.psis or not all(psi > 1 for psi in self.psis):
            raise UsageError(
                f"odds ratios psi_max = {self.psi_max} and psis = {self.psis} must all be above 1"
            )
        if not self.log_bad:
            object.__setattr__(self, "log_bad", (0.0,) * len(self.psis))

    def updated(self, n_c: int, x: int, n_s: int, s: int) -> RelativeEvidence:
        """With one more interval: x of the canary's n_c and s of stable's n_s requests failed.

        Raises DataError for counts that contradict each other.
        """
        check_counts(x, n_c, "the canary")
        check_counts(s, n_s, "stable")
        if x + s == 0 or n_c == 0 or n_s == 0:
            return self
        gains = _gains(n_c, x, n_s, s, (*self.psis, self.psi_max))
        return replace(
            self,
            log_bad=tuple(old + gain for old, gain in zip(self.log_bad, gains, strict=False)),
            log_good=self.log_good - gains[-1],
        )

    def with_phi(self, phi: float) -> RelativeEvidence:
        """The same evidence read with another overdispersion."""
        return replace(self, phi=phi)

    @cached_property
    def log_e_bad(self) -> float:
        """ln E that the canary is worse: roll back at ln(1/alpha)."""
        return log_mean([value / self.phi for value in self.log_bad])

    @property
    def log_e_good(self) -> float:
        """ln E that the canary is not psi_max times worse: promote at ln(1/beta)."""
        return self.log_good / self.phi

    def to_json(self) -> dict[str, Any]:
        return {
            "psi_max": self.psi_max,
            "psis": list(self.psis),
            "phi": self.phi,
            "log_bad": list(self.log_bad),
            "log_good": self.log_good,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> RelativeEvidence:
        return cls(
            psi_max=found["psi_max"],
            psis=tuple(found["psis"]),
            phi=found["phi"],
            log_bad=tuple(found["log_bad"]),
            log_good=found["log_good"],
        )


@lru_cache(maxsize=4096)
def _gains(n_c: int, x: int, n_s: int, s: int, psis: tuple[float, ...]) -> tuple[float, ...]:
    """What an interval adds to ln E per odds ratio; intervals of a second are often alike."""
    odds = np.array(psis)
    return tuple((x * np.log(odds) - log_mean_power(n_c, n_s, x + s, odds)).tolist())
