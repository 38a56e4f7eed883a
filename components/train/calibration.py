"""From a model's log-odds to a probability: Platt's line, or an isotonic one where data allow it.

Both are one increasing piecewise-linear map of log-odds, so that one form of graph serves both.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from serving.errors import UsageError

Method = Literal["auto", "platt", "isotonic"]
METHODS: tuple[Method, ...] = ("auto", "platt", "isotonic")
LIMIT = 100.0
"""Log-odds are clipped here: float32 has no probability beyond."""
ISOTONIC_POSITIVES = 1000
"""Positives from which `auto` tries an isotonic map; with fewer its steps are noise."""
LEAST_SLOPE, LARGEST_SLOPE = 0.05, 8.0
"""An isotonic step may be flat, which would tie rows, or upright, which would magnify rounding."""
BLOCKS = 16
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Calibration:
    """log-odds -> offset + sum of slope * clip(log-odds - anchor, low, high), then the sigmoid."""

    offset: float
    slopes: tuple[float, ...]
    anchors: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]

    @property
    def method(self) -> Method:
        return "platt" if len(self.slopes) == 1 else "isotonic"

    def apply(self, margin: Floats) -> NDArray[np.float32]:
        """Probabilities [rows], in float32 as the graph computes them."""
        clipped = np.clip(margin.astype(np.float32), -LIMIT, LIMIT)
        anchors, lows, highs, slopes = (
            np.array(part, dtype=np.float32)
            for part in (self.anchors, self.lows, self.highs, self.slopes)
        )
        total = np.full(len(clipped), np.float32(self.offset))
        for anchor, low, high, slope in zip(anchors, lows, highs, slopes, strict=True):
            total += slope * np.clip(clipped - anchor, low, high)
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(-total)), dtype=np.float32)

    def facts(self) -> dict[str, Any]:
        return {"method": self.method, **asdict(self)}


def line(slope: float, offset: float) -> Calibration:
    """Platt's map."""
    return Calibration(offset, (slope,), (0.0,), (-LIMIT,), (LIMIT,))


def parse_method(value: str) -> Method:
    for method in METHODS:
        if value == method:
            return method
    raise UsageError(f"calibration '{value}' is unknown; choose one of {', '.join(METHODS)}")


def calibrate(margin: Floats, label: Floats, weight: Floats, method: Method) -> Calibration:
    """The map that makes `margin` [rows] a probability of the weighted rows.

    `auto` takes the isotonic map where there are enough positives and where, fitted on every other
    row, it has the smaller log loss on the rows between.
    """
    if method == "isotonic":
        return isotonic(margin, label, weight)
    if method == "auto" and label.sum() >= ISOTONIC_POSITIVES:
        losses = []
        for fitted in (isotonic, platt):
            loss = 0.0
            for half in (0, 1):
                rows, judged = slice(half, None, 2), slice(1 - half, None, 2)
                found = fitted(margin[rows], label[rows], weight[rows]).apply(margin[judged])
                loss += log_loss(found, label[judged], weight[judged])
            losses.append(loss)
        if losses[0] < losses[1]:
            return isotonic(margin, label, weight)
    return platt(margin, label, weight)


def log_loss(score: Floats, label: Floats, weight: Floats) -> float:
    return float(np.average(row_losses(score, label), weights=weight))


def row_losses(score: Floats, label: Floats) -> NDArray[np.float64]:
    """Each row's log loss, [rows]."""
    p = np.clip(score.astype(np.float64), 1e-7, 1 - 1e-7)
    return np.asarray(-np.where(label == 1, np.log(p), np.log1p(-p)), dtype=np.float64)


def platt(margin: Floats, label: Floats, weight: Floats) -> Calibration:
    """Slope and offset of the weighted logistic fit of labels on log-odds (Platt 1999).

    Newton's method with a weak pull towards slope 1, so that few positives cannot flip the order.
    A step that would not lower the loss is halved: far from the line, where few rows are in doubt,
    whole ones overshoot for ever.
    """
    clipped = np.clip(margin.astype(np.float64), -LIMIT, LIMIT)
    x = np.column_stack([clipped, np.ones(len(clipped))])
    weight = weight.astype(np.float64) * len(weight) / weight.sum()
    prior, pull = np.array([1.0, 0.0]), np.diag([1.0, 1e-3])
    theta = prior.copy()

    def objective(theta: Floats) -> float:
        z = x @ theta
        away = theta - prior
        return float((weight * (np.logaddexp(0, z) - label * z)).sum() + away @ pull @ away / 2)

    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(x @ theta, -500, 500)))
        gradient = x.T @ (weight * (p - label)) + pull @ (theta - prior)
        hessian = (x.T * (weight * p * (1 - p))) @ x + pull
        step = np.linalg.solve(hessian, gradient)
        before = objective(theta)
        while objective(theta - step) > before and np.abs(step).max() >= 1e-8:
            step /= 2
        theta = theta - step
        if np.abs(step).max() < 1e-8:
            break
    return line(max(float(theta[0]), LEAST_SLOPE), float(theta[1]))


def isotonic(margin: Floats, label: Floats, weight: Floats) -> Calibration:
    """Centred isotonic regression in log-odds (Oron and Flournoy 2017): blocks of equal rates
    become points at their mean, joined by lines. Outside the points it follows Platt's slope."""
    from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415

    clipped = np.clip(margin.astype(np.float64), -LIMIT, LIMIT)
    smooth = platt(margin, label, weight)
    order = np.argsort(clipped, kind="stable")
    # Groups of equal weight first: single rows would make steps of 0 and 1 at both ends.
    share = np.cumsum(weight[order]) / weight.sum()
    group = np.minimum((share * BLOCKS * (1 - 1e-12)).astype(np.intp), BLOCKS - 1)
    mass = np.bincount(group, weight[order], BLOCKS)
    kept = mass > 0
    x = np.bincount(group, weight[order] * clipped[order], BLOCKS)[kept] / mass[kept]
    hits = np.bincount(group, weight[order] * label[order], BLOCKS)[kept]
    mass = mass[kept]
    mean = float(hits.sum() / mass.sum())
    rate = (hits + mean * mass.mean() / 50) / (mass + mass.mean() / 50)
    rate = IsotonicRegression().fit_transform(x, rate, sample_weight=mass)
    starts = np.flatnonzero(np.diff(rate, prepend=-1.0) > 0)
    total = np.add.reduceat(mass, starts)
    x = np.add.reduceat(mass * x, starts) / total
    y = np.log(rate[starts]) - np.log1p(-rate[starts])
    if len(x) < 2:
        return smooth
    width = np.maximum(np.diff(x), 1e-3)
    slopes = np.clip(np.diff(y) / width, LEAST_SLOPE, LARGEST_SLOPE)
    inside, rise = len(slopes), float((slopes * width).sum())
    outer = float(np.clip(smooth.slopes[0], LEAST_SLOPE, LARGEST_SLOPE))
    # The bound on slopes may shorten the climb: what is lost goes to both sides alike.
    return Calibration(
        offset=float(y[0] + (y[-1] - y[0] - rise) / 2),
        slopes=(outer, *map(float, slopes), outer),
        anchors=(float(x[0]), *map(float, x[:-1]), float(x[0] + width.sum())),
        lows=(-2 * LIMIT, *[0.0] * inside, 0.0),
        highs=(0.0, *map(float, width), 2 * LIMIT),
    )
