"""Flagger and Argo Rollouts as they decide: absolute thresholds, one check a minute."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.rollout.traffic import MAX_RATE, Counts, Floats, Ints, Traffic

STEPS = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
"""Shares of the canary; after the last one it is promoted."""
CAP_LOOKS = 24 * 60
"""A run without a verdict after a day is left to a person."""

Flags = npt.NDArray[np.bool_]


class Verdict(IntEnum):
    RUNNING = 0
    PROMOTED = 1
    ROLLED_BACK = 2
    HELD = 3
    """Neither: at the time cap the canary goes to 0 % and a person is asked."""


class Tool(Protocol):
    """One tool's decisions over all runs still going; row i of every array is the same run."""

    def weights(self) -> Floats: ...

    def look(self, counts: Counts) -> Ints:
        """A Verdict per run."""

    def keep(self, going: Flags) -> None:
        """Forgets the runs that are over."""


def play(tool: Tool, traffic: Traffic, runs: int, cap: int = CAP_LOOKS) -> tuple[Ints, Ints]:
    """Verdict and look of the verdict, per run."""
    verdicts, looks = np.full(runs, int(Verdict.HELD)), np.full(runs, cap)
    going = np.arange(runs)
    for index in range(cap):
        found = tool.look(traffic.look(index, tool.weights(), going))
        over = found != Verdict.RUNNING
        if over.any():
            verdicts[going[over]], looks[going[over]] = found[over], index + 1
            tool.keep(~over)
            going = going[~over]
        if len(going) == 0:
            break
    return verdicts, looks


class Flagger:
    """Flagger 1.44: a check a minute of success rate and latency, as `request-success-rate` and a
    p99 `request-duration` do. A check that passes moves the weight on, one that fails is counted
    and leaves it; at `threshold` failed checks, never reset, it rolls back. A check without data
    fails. (pkg/controller/scheduler.go)
    """

    def __init__(self, runs: int, max_rate: float = MAX_RATE, threshold: int = 5) -> None:
        self.max_rate, self.threshold = max_rate, threshold
        self.step, self.failed = np.zeros(runs, np.int64), np.zeros(runs, np.int64)

    def weights(self) -> Floats:
        return STEPS[self.step]

    def look(self, counts: Counts) -> Ints:
        passed = (counts.n_c > 0) & within(counts, self.max_rate)
        self.failed += ~passed
        self.step += passed
        done = self.step == len(STEPS)
        self.step = np.minimum(self.step, len(STEPS) - 1)
        return np.select(
            [self.failed >= self.threshold, done], [Verdict.ROLLED_BACK, Verdict.PROMOTED], 0
        )

    def keep(self, going: Flags) -> None:
        self.step, self.failed = self.step[going], self.failed[going]


class Argo:
    """Argo Rollouts: setWeight and a pause of a minute per step, an AnalysisRun beside them with
    one measurement a minute per metric. A metric that fails more than `limit` times aborts. A
    measurement without data is NaN, which fails a comparison.
    """

    def __init__(self, runs: int, max_rate: float = MAX_RATE, limit: int = 0) -> None:
        self.max_rate, self.limit = max_rate, limit
        self.step = 0
        self.failed = np.zeros((runs, 2), np.int64)

    def weights(self) -> Floats:
        return np.full(len(self.failed), STEPS[self.step])

    def look(self, counts: Counts) -> Ints:
        empty = counts.n_c == 0
        for column, events in enumerate((counts.errors_c, counts.slow_c)):
            self.failed[:, column] += empty | (events > self.max_rate * counts.n_c)
        self.step += 1
        aborted = (self.failed > self.limit).any(axis=1)
        last = Verdict.PROMOTED if self.step == len(STEPS) else Verdict.RUNNING
        self.step = min(self.step, len(STEPS) - 1)
        return np.where(aborted, int(Verdict.ROLLED_BACK), int(last))

    def keep(self, going: Flags) -> None:
        self.failed = self.failed[going]


def within(counts: Counts, max_rate: float) -> Flags:
    """Whether both of the canary's rates are at most `max_rate`."""
    worst = np.maximum(counts.errors_c, counts.slow_c)
    return worst <= max_rate * counts.n_c
