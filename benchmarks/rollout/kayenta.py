"""Kayenta's NetflixACAJudge: Mann-Whitney on a point a minute."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from benchmarks.rollout.tools import STEPS, Flags, Verdict
from benchmarks.rollout.traffic import Floats, Ints, Traffic

POINTS = 50
"""What its documentation asks for at least: ten minutes at each of the five steps."""
CONFIDENCE, TOLERANCE = 0.98, 0.25
"""As the judge sets them."""
_CHUNK = 200


@dataclass(frozen=True)
class Points:
    """Error rate, slow rate and mean score a minute; shape [runs, 3, POINTS], NaN without data."""

    canary: Floats
    stable: Floats


@dataclass(frozen=True)
class Judged:
    """Test statistics of a shift beyond one tolerance, per run and metric."""

    nodata: Flags
    above: Floats
    below: Floats


def collect(traffic: Traffic, runs: int) -> Points:
    canary, stable = (np.full((runs, 3, POINTS), np.nan) for _ in range(2))
    everyone = np.arange(runs)
    for point in range(POINTS):
        weight = STEPS[point * len(STEPS) // POINTS]
        counts = traffic.look(point, np.full(runs, weight), everyone)
        for held, n, errors, slow, score in (
            (canary, counts.n_c, counts.errors_c, counts.slow_c, counts.score_c),
            (stable, counts.n_s, counts.errors_s, counts.slow_s, counts.score_s),
        ):
            with np.errstate(invalid="ignore"):
                held[:, :, point] = np.stack([errors / n, slow / n, score], axis=1)
    return Points(canary, stable)


def judged(points: Points, tolerance: float) -> Judged:
    """The interval's end is beyond `tolerance` times the Hodges-Lehmann shift where the test of
    that bound rejects, so no root is sought: R's wilcox.test with ties and continuity correction,
    at the bound. (kayenta-judge: MannWhitneyClassifier)
    """
    runs = len(points.canary)
    above, below = np.zeros((runs, 3)), np.zeros((runs, 3))
    nodata = np.isnan(points.canary).mean(axis=2).max(axis=1) >= 0.5
    usable = np.flatnonzero(~nodata)
    for start in range(0, len(usable), _CHUNK):
        rows = usable[start : start + _CHUNK]
        for metric in range(3):
            a, b = points.canary[rows, metric], points.stable[rows, metric]
            shift = np.nanmedian((a[:, :, None] - b[:, None, :]).reshape(len(rows), -1), axis=1)
            bound = tolerance * np.abs(shift)[:, None]
            above[rows, metric] = _statistic(a - bound, b)
            if metric == 2:
                below[rows, metric] = _statistic(a + bound, b)
    return Judged(nodata, above, below)


def verdicts(found: Judged, confidence: float = CONFIDENCE, scores: bool = True) -> Ints:
    """One judgement at the end. A rate may be High and the mean score High or Low; one such metric
    of three, or of two without `scores`, makes a score of 67 or 50, below the pass mark of 95. No
    data in half of the points fails.
    """
    quantile = NormalDist().inv_cdf(0.5 + confidence / 2)
    moved = (found.above > quantile) | (found.below < -quantile)
    failed = found.nodata | moved[:, : 3 if scores else 2].any(axis=1)
    return np.where(failed, int(Verdict.ROLLED_BACK), int(Verdict.PROMOTED))


def _statistic(a: Floats, b: Floats) -> Floats:
    a, b = np.round(a, 12), np.round(b, 12)
    m, n = (~np.isnan(a)).sum(axis=1), (~np.isnan(b)).sum(axis=1)
    excess = np.nansum(np.sign(a[:, :, None] - b[:, None, :]), axis=(1, 2)) / 2
    pooled = np.concatenate([a, b], axis=1)
    ties = (pooled[:, :, None] == pooled[:, None, :]).sum(axis=2)
    tied = (np.maximum(ties, 1) ** 2 - 1).sum(axis=1)
    spread = m * n / 12 * (m + n + 1 - tied / ((m + n) * (m + n - 1)))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (excess - 0.5 * np.sign(excess)) / np.sqrt(spread)
    return np.where(spread > 0, found, 0.0)
