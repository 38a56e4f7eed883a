"""Have the canary's scores or decisions moved further than declared? Per bin, one against the rest.

Never a test for equality: every honest retrain moves its scores a little, and with enough requests
any difference is found. What is declared is a tolerance on odds ratios.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.errors import DataError, UsageError
from serving.rollout.evidence.counts import check_dispersion
from serving.rollout.evidence.hypergeometric import log_mean_power

TOLERANCE = 1.5
"""Default: a decile of stable may hold between 6.9 % and 14.3 % of the canary's scores."""

BEYOND = (1.15, 1.5, 2.5)
"""Odds ratios of the alternatives of a shift, as multiples of the tolerance."""
WITHIN = (0.0, 0.5)
"""Alternatives of no shift: powers of the tolerance. 0 is equality, 0.5 half way to the bound."""

Table = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class ShiftEvidence:
    """Likelihood ratios of Fisher's noncentral hypergeometric law per bin and direction.

    Given both arms' answers and a bin's total, the canary's count in the bin follows the law whose
    odds ratio is that of "in this bin" between the arms. For each bin and both directions (up, and
    down as its mirror image):

    shift, H0 "every bin's odds ratio is within [1/tolerance, tolerance]": the ratio of an
    alternative beyond the tolerance against the tolerance itself rises in the count, so within the
    tolerance its expectation is largest at the bound, and 1 there. The average over alternatives,
    directions and bins is a nonnegative supermartingale, however the bins depend on each other.

    within, H0 "some bin is at the tolerance or beyond": the ratio of alternatives inside against
    the bound on one side is an e-process under H0 for that bin and side. The smallest over all
    bins and sides is at most that one, whichever it is (an intersection-union test): it reaches
    1/beta with probability beta at most while any bin is out of tolerance.

    Rates, mixes and splits of traffic may change between intervals as in RelativeEvidence: what is
    tested is the canary against stable at the same time.
    """

    bins: int
    tolerance: float = TOLERANCE
    phi: float = 1.0
    log_beyond: Table = ()
    """ln E per side (every bin up, then every bin down) and alternative of BEYOND."""
    log_within: Table = ()
    """The same per alternative of WITHIN."""

    def __post_init__(self) -> None:
        check_dispersion(self.phi)
        if self.bins < 2 or not self.tolerance > 1:
            raise UsageError(
                f"{self.bins} bins with tolerance {self.tolerance} cannot be tested; give at "
                "least 2 bins and an odds ratio above 1"
            )
        if not self.log_beyond:
            sides = 2 * self.bins
            object.__setattr__(self, "log_beyond", ((0.0,) * len(BEYOND),) * sides)
            object.__setattr__(self, "log_within", ((0.0,) * len(WITHIN),) * sides)

    def updated(self, bins_c: Sequence[int], bins_s: Sequence[int]) -> ShiftEvidence:
        """With one more interval: answers per bin of the canary and of stable. Raises DataError."""
        if len(bins_c) != self.bins or len(bins_s) != self.bins or min(*bins_c, *bins_s) < 0:
            raise DataError(
                f"bins of {len(bins_c)} canary and {len(bins_s)} stable counts do not fit the "
                f"{self.bins} bins of this run; counts are increments, never negative"
            )
        if sum(bins_c) == 0 or sum(bins_s) == 0:
            return self
        beyond, within = shift_gains(np.array(bins_c), np.array(bins_s), self.tolerance)
        return replace(
            self,
            log_beyond=_added(self.log_beyond, beyond),
            log_within=_added(self.log_within, within),
        )

    def with_phi(self, phi: float) -> ShiftEvidence:
        """The same evidence read with another overdispersion (see RelativeEvidence)."""
        return replace(self, phi=phi)

    @cached_property
    def log_e(self) -> float:
        """ln E that some bin has moved past the tolerance: hold at ln(1/alpha)."""
        logs = np.array(self.log_beyond) / self.phi
        top = logs.max()
        return float(top + np.log(np.exp(logs - top).sum() / logs.size))

    @cached_property
    def log_e_good(self) -> float:
        """ln E that every bin is within the tolerance: promote at ln(1/beta)."""
        logs = np.array(self.log_within) / self.phi
        top = logs.max(axis=1, keepdims=True)
        return float((top[:, 0] + np.log(np.exp(logs - top).sum(axis=1) / len(WITHIN))).min())

    def to_json(self) -> dict[str, Any]:
        return {
            "bins": self.bins,
            "tolerance": self.tolerance,
            "phi": self.phi,
            "log_beyond": [list(side) for side in self.log_beyond],
            "log_within": [list(side) for side in self.log_within],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> ShiftEvidence:
        return cls(
            bins=found["bins"],
            tolerance=found["tolerance"],
            phi=found["phi"],
            log_beyond=tuple(tuple(side) for side in found["log_beyond"]),
            log_within=tuple(tuple(side) for side in found["log_within"]),
        )


def shift_gains(
    bins_c: npt.NDArray[np.int64], bins_s: npt.NDArray[np.int64], tolerance: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What one interval adds to ln E: shapes [..., 2 bins, BEYOND] and [..., 2 bins, WITHIN].

    `bins_*` are counts of shape [..., bins]; any leading axes are independent runs.
    """
    odds, log_odds = _both_ways(tolerance)
    x = bins_c[..., None]
    n_c, n_s = bins_c.sum(axis=-1)[..., None, None], bins_s.sum(axis=-1)[..., None, None]
    logs = x * log_odds - log_mean_power(n_c, n_s, x + bins_s[..., None], odds)
    half = len(odds) // 2
    both = np.concatenate([logs[..., :half], logs[..., half:]], axis=-2)
    gains = both[..., 1:] - both[..., :1]
    return gains[..., : len(BEYOND)], gains[..., len(BEYOND) :]


@lru_cache(maxsize=64)
def _both_ways(tolerance: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Odds ratios of a bin that grows, then of one that shrinks; and their logarithms."""
    up = odds_ratios(tolerance)
    odds = np.concatenate([up, 1 / up])
    return odds, np.log(odds)


def odds_ratios(tolerance: float) -> npt.NDArray[np.float64]:
    """The tolerance, the alternatives of BEYOND and those of WITHIN, for a bin that grows."""
    beyond = [tolerance * factor for factor in BEYOND]
    return np.array([tolerance, *beyond, *(tolerance**power for power in WITHIN)])


def _added(old: Table, gains: npt.NDArray[np.float64]) -> Table:
    return tuple(map(tuple, (np.array(old) + gains).tolist()))
