"""Does the canary keep the SLO by itself? E-processes that need no stable arm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from serving.errors import UsageError
from serving.rollout.evidence.counts import check_counts, check_dispersion
from serving.rollout.evidence.mixture import log_mean

BETTER = ((0.0, 0.5), (0.25, 0.25), (0.5, 0.25))
"""(rate as a share of p_max, weight) of the alternatives below the SLO's maximum."""
WORSE = ((1.5, 1 / 3), (2.0, 1 / 3), (4.0, 1 / 3))
"""(odds as a multiple of those of p_max, weight) of the alternatives above it."""


@dataclass(frozen=True)
class AbsoluteEvidence:
    """Likelihood ratios of binomials against the SLO's maximum rate, multiplied over intervals.

    good, H0 "the rate is p_max or more": the factor (p/p_max)^x ((1-p)/(1-p_max))^(n-x) with
    p < p_max has expectation (1 + c)^n, c = (q - p_max)(p/p_max - (1-p)/(1-p_max)), at the rate q:
    1 at q = p_max and less above. Where the requests of an interval differ in their rates, the
    expectation is a product of factors affine in each, at most the same at their mean (AM-GM), so
    H0 speaks of the mean rate. Rates may change between intervals: a nonnegative supermartingale
    (betting on a bounded mean: Waudby-Smith & Ramdas, JRSS B 2024).

    bad, H0 "the rate is p_max at most": the same with p > p_max. It is not evidence against the
    canary while stable serves, for both arms may suffer from one cause; it is the only evidence
    there is at 100 %, where no stable arm is left.

    The clean alternative p = 0 has half the weight: at p_max = 1 % and beta = 5 %, 342 requests
    without a failure are a proof.
    """

    p_max: float
    phi: float = 1.0
    log_good: tuple[float, ...] = (0.0,) * len(BETTER)
    """ln E per alternative of BETTER, not yet divided by phi."""
    log_bad: tuple[float, ...] = (0.0,) * len(WORSE)
    """ln E per alternative of WORSE, not yet divided by phi."""

    def __post_init__(self) -> None:
        check_dispersion(self.phi)
        if not 0 < self.p_max < 1:
            raise UsageError(f"p_max = {self.p_max} is not a rate; give the SLO's maximum, as 0.01")

    def updated(self, n_c: int, x: int) -> AbsoluteEvidence:
        """With one more interval: x of the canary's n_c requests failed. Raises DataError."""
        check_counts(x, n_c, "the canary")
        if n_c == 0:
            return self
        return replace(
            self,
            log_good=tuple(
                old + _log_ratio(n_c, x, share * self.p_max, self.p_max)
                for old, (share, _) in zip(self.log_good, BETTER, strict=True)
            ),
            log_bad=tuple(
                old + _log_ratio(n_c, x, _worse(share, self.p_max), self.p_max)
                for old, (share, _) in zip(self.log_bad, WORSE, strict=True)
            ),
        )

    def with_phi(self, phi: float) -> AbsoluteEvidence:
        """The same evidence read with another overdispersion (see RelativeEvidence)."""
        return replace(self, phi=phi)

    @cached_property
    def log_e_good(self) -> float:
        """ln E that the rate is below p_max: promote at ln(1/beta)."""
        return log_mean([v / self.phi for v in self.log_good], [weight for _, weight in BETTER])

    @cached_property
    def log_e_bad(self) -> float:
        """ln E that the rate is above p_max."""
        return log_mean([v / self.phi for v in self.log_bad], [weight for _, weight in WORSE])

    def to_json(self) -> dict[str, Any]:
        return {
            "p_max": self.p_max,
            "phi": self.phi,
            # JSON has no infinity: null is the ln 0 of the clean alternative after a failure.
            "log_good": [None if math.isinf(value) else value for value in self.log_good],
            "log_bad": list(self.log_bad),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> AbsoluteEvidence:
        return cls(
            p_max=found["p_max"],
            phi=found["phi"],
            log_good=tuple(-math.inf if v is None else v for v in found["log_good"]),
            log_bad=tuple(found["log_bad"]),
        )


def _worse(share: float, p_max: float) -> float:
    """The rate whose odds are `share` times those of p_max: below 1 for any p_max."""
    odds = share * p_max / (1 - p_max)
    return odds / (1 + odds)


def _log_ratio(n: int, x: int, p: float, p_max: float) -> float:
    if p == 0:
        return -math.inf if x else -n * math.log1p(-p_max)
    return x * math.log(p / p_max) + (n - x) * (math.log1p(-p) - math.log1p(-p_max))
