"""Averages of e-processes, taken on logarithms.

An average of e-processes with weights fixed beforehand is an e-process (expectation is linear), and
so is the smallest of several under the null that at least one of theirs is true.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def log_mean(logs: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """ln of the weighted mean of exp(logs); weights are at least 0 and sum to 1, equal if None.

    Two proofs of which either will do (against stable, against the SLO) are best joined so:
    the mean reaches 1/beta with probability beta at most where both their nulls hold, while taking
    whichever comes first allows up to 2 beta.
    """
    shares = weights if weights is not None else [1 / len(logs)] * len(logs)
    held = [(value, share) for value, share in zip(logs, shares, strict=True) if share > 0]
    top = max(value for value, _ in held)
    if math.isinf(top):
        return top
    return top + math.log(math.fsum(share * math.exp(value - top) for value, share in held))


def threshold(error_rate: float) -> float:
    """ln(1/error_rate): by Ville's inequality P(ever E >= 1/rate) <= rate under the null."""
    return -math.log(error_rate)
