"""ln E[psi^X] of the central hypergeometric law, exact, for any size of interval.

Of `e` failures among `n_c` canary and `n_s` stable requests, the canary's share X follows Fisher's
noncentral hypergeometric law with the odds ratio psi of the two arms, whatever the error rate and
the traffic split are. With Z(psi) = sum_j C(n_c, j) C(n_s, e - j) psi^j this module computes
ln Z(psi) - ln Z(1) = ln E[psi^X]: all that a likelihood ratio between two odds ratios needs.

The term at the mode comes from Loader's saddle-point form of the binomial (C. Loader, "Fast and
Accurate Computation of Binomial Probabilities", 2000), whose error does not grow with n as that of
differences of lgamma does. Its neighbours follow by the ratio of successive terms,
r_j = psi (n_c - j)(e - j) / ((j + 1)(n_s - e + j + 1)). r_j falls in j (the terms are
log-concave), so what lies beyond the last term t is at most t r / (1 - r), a geometric series: the
sum stops where that bound is below TRUNCATION of what has been summed.

Few failures, as looks every second bring, need none of that: all terms are summed, for all odds
ratios at once.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

TRUNCATION = 1e-13
"""Largest relative error by leaving out terms, on each side of the mode."""

_ROWS = 2048
"""Rows summed at once, which bounds the memory that their terms take."""
_FEW = 128
"""Terms up to which all are summed."""
_EXACT = 16
# ln n! minus Stirling's formula, where the series is not yet exact to the last digit.
_STIRLING_ERROR = np.array(
    [0.0]
    + [
        math.lgamma(n + 1) - (n + 0.5) * math.log(n) + n - 0.5 * math.log(2 * math.pi)
        for n in range(1, _EXACT)
    ]
)


def log_mean_power(
    n_c: npt.ArrayLike, n_s: npt.ArrayLike, e: npt.ArrayLike, psi: npt.ArrayLike
) -> Floats:
    """ln E[psi^X], X the canary's failures when all `e` fall blindly on n_c + n_s requests.

    The arguments broadcast; counts are whole numbers with e <= n_c + n_s, psi > 0.
    """
    whole = _whole_sum(n_c, n_s, e, np.asarray(psi, dtype=np.float64))
    if whole is not None:
        return whole
    shape = np.broadcast_shapes(np.shape(n_c), np.shape(n_s), np.shape(e), np.shape(psi))
    c, s, total, odds = (
        np.broadcast_to(np.asarray(a, dtype=np.float64), shape).ravel() for a in (n_c, n_s, e, psi)
    )
    low, high = np.maximum(0.0, total - s), np.minimum(total, c)
    found = low * np.log(odds)
    open_ = (high > low) & (odds != 1.0)
    found[odds == 1.0] = 0.0
    rows = np.flatnonzero(open_)
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        found[part] = _log_mean_power(c[part], s[part], total[part], odds[part])
    return found.reshape(shape)


def _whole_sum(
    n_c: npt.ArrayLike, n_s: npt.ArrayLike, e: npt.ArrayLike, odds: Floats
) -> Floats | None:
    """Every interval at every one of `odds`, by all terms; None where that is not what is asked,
    where the terms are many, and where they leave the range of floats."""
    c, s, total = (np.array(a, dtype=np.float64, ndmin=1) for a in (n_c, n_s, e))
    if odds.ndim != 1 or any(counts.shape[-1] != 1 for counts in (c, s, total)):
        return None
    low = np.maximum(0.0, total - s)
    spans = np.minimum(total, c) - low
    span = int(spans.max(initial=0.0))
    if span > _FEW or spans.size > _ROWS:
        return None
    x = low + np.arange(1.0, span + 1)
    # Past the end of an interval's range a factor is 0, and so is all that follows.
    ratio = np.maximum(c - x + 1, 0.0) * np.maximum(total - x + 1, 0.0)
    ratio /= x * (s - total + x)
    terms = np.ones((*spans.shape[:-1], span + 1))
    with np.errstate(over="ignore", invalid="ignore"):
        np.cumprod(ratio, axis=-1, out=terms[..., 1:])
        sums = terms @ _powers(odds.tobytes(), span + 1)
    if not np.isfinite(sums).all():
        return None
    found: Floats = np.log(sums / terms.sum(axis=-1, keepdims=True)) + low * np.log(odds)
    found[..., odds == 1.0] = 0.0
    return found


@lru_cache(maxsize=256)
def _powers(odds: bytes, count: int) -> Floats:
    """Shape [count, odds]."""
    with np.errstate(over="ignore"):
        powers: Floats = np.frombuffer(odds) ** np.arange(count)[:, None]
    return powers


def _log_mean_power(c: Floats, s: Floats, e: Floats, psi: Floats) -> Floats:
    low, high = np.maximum(0.0, e - s), np.minimum(e, c)
    mode = np.clip(_mode(c, s, e, psi), low, high)
    log_term = _log_probability(mode, c, s, e) + mode * np.log(psi)
    return log_term + np.log(_relative_sum(c, s, e, psi, mode))


def _mode(c: Floats, s: Floats, e: Floats, psi: Floats) -> Floats:
    """Index of the largest term: where r crosses 1, a root of a quadratic (Fog 2008)."""
    linear = s - e + psi * (c + e + 2)
    product = psi * (c + 1) * (e + 1)
    root = np.sqrt(np.maximum(0.0, linear**2 + 4 * (1 - psi) * product))
    # The two forms of one root: each is free of cancellation for one sign of `linear`.
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(
            linear >= 0, 2 * product / (linear + root), (root - linear) / (2 * (1 - psi))
        )
    return np.asarray(np.floor(found))


def _relative_sum(c: Floats, s: Floats, e: Floats, psi: Floats, mode: Floats) -> Floats:
    """Sum of all terms over the term at the mode."""
    rest = s - e
    span = np.max(np.minimum(e, c) - np.maximum(0.0, -rest))
    information = 1 / (mode + 1) + 1 / (c - mode + 1) + 1 / (e - mode + 1) + 1 / (rest + mode + 1)
    # Nine standard deviations nearly always do; the bound below decides.
    width = int(min(np.max(9 / np.sqrt(information)) + 16, span + 1))
    while True:
        step = np.arange(width, dtype=np.float64)
        up = mode[:, None] + step
        ratio_up = psi[:, None] * (c[:, None] - up) * (e[:, None] - up)
        ratio_up /= (up + 1) * (rest[:, None] + up + 1)
        down = mode[:, None] - step
        ratio_down = down * (rest[:, None] + down)
        ratio_down /= psi[:, None] * (c[:, None] - down + 1) * (e[:, None] - down + 1)
        # A ratio is 0 at the end of the range; what the products say beyond it stays 0.
        terms_up = np.asarray(np.cumprod(ratio_up, axis=1), dtype=np.float64)
        terms_down = np.asarray(np.cumprod(ratio_down, axis=1), dtype=np.float64)
        found: Floats = 1 + terms_up.sum(axis=1) + terms_down.sum(axis=1)
        if width > span or (
            _enough(terms_up[:, -1], ratio_up[:, -1], found)
            and _enough(terms_down[:, -1], ratio_down[:, -1], found)
        ):
            return found
        width *= 2


def _enough(last: Floats, ratio: Floats, total: Floats) -> bool:
    """Whether the geometric series beyond the last term is small enough."""
    return bool(np.all(last * np.abs(ratio) <= TRUNCATION * total * np.maximum(1 - ratio, 0)))


def _log_probability(x: Floats, c: Floats, s: Floats, e: Floats) -> Floats:
    """ln of the central hypergeometric probability of x, as three binomials of one rate."""
    everything = c + s
    rate, rest = e / everything, (everything - e) / everything
    return (
        _log_binomial(x, c, rate, rest)
        + _log_binomial(e - x, s, rate, rest)
        - _log_binomial(e, everything, rate, rest)
    )


def _log_binomial(k: Floats, n: Floats, p: Floats, q: Floats) -> Floats:
    none, all_ = k == 0, k == n
    inside = ~(none | all_)
    found = np.zeros_like(k)
    found[none] = _log_power(n[none], q[none], p[none])
    every = all_ & ~none
    found[every] = _log_power(n[every], p[every], q[every])
    k, n, p, q = k[inside], n[inside], p[inside], q[inside]
    found[inside] = (
        _stirling_error(n)
        - _stirling_error(k)
        - _stirling_error(n - k)
        - _deviance(k, n * p)
        - _deviance(n - k, n * q)
        + 0.5 * np.log(n / (2 * math.pi * k * (n - k)))
    )
    return found


def _log_power(n: Floats, base: Floats, complement: Floats) -> Floats:
    """n ln base, given 1 - base as well; 0 for n = 0."""
    with np.errstate(divide="ignore"):
        logs = np.where(complement < 0.5, np.log1p(-np.minimum(complement, 0.5)), np.log(base))
    return np.where(n == 0, 0.0, n * np.where(n == 0, 0.0, logs))


def _stirling_error(n: Floats) -> Floats:
    """ln n! - ln(sqrt(2 pi n) (n/e)^n)."""
    large = np.maximum(n, _EXACT)
    square = large * large
    series = np.zeros_like(large)
    for coefficient in (1 / 1188, 1 / 1680, 1 / 1260, 1 / 360, 1 / 12):
        series = coefficient - series / square
    table = _STIRLING_ERROR[np.minimum(n, _EXACT - 1).astype(np.int64)]
    return np.where(n < _EXACT, table, series / large)


def _deviance(x: Floats, mean: Floats) -> Floats:
    """x ln(x / mean) + mean - x without cancellation where x is near the mean."""
    v = (x - mean) / (x + mean)
    square = v * v
    series = np.zeros_like(v)
    for j in range(8, 0, -1):
        series = square * (series + 1 / (2 * j + 1))
    near = (x - mean) * v + 2 * x * v * series
    far = x * np.log(x / mean) + mean - x
    return np.where(np.abs(v) < 0.1, near, far)
