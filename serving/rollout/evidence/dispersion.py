"""How far events come in bursts, from the totals of both arms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from serving.errors import UsageError
from serving.rollout.evidence.counts import check_counts


@dataclass(frozen=True)
class Overdispersion:
    """phi = variance of the events per interval over what independent events would have.

    A burst of k failures with one cause counts as one event seen k times; for bursts that arrive
    independently phi = E[k^2]/E[k]. Neighbouring intervals are compared, so that a rate that drifts
    over a day adds next to nothing: of intervals with e_1 of n_1 and e_2 of n_2 events,
    (e_1 n_2 - e_2 n_1)^2 / (n_1 n_2) has the expectation phi (e_1 + e_2)(1 - p).

    Only the totals of both arms enter: they say nothing about which arm is worse. Dividing ln E by
    any phi >= 1 keeps the guarantee for independent events (see RelativeEvidence). For bursts
    it is an approximation, quasi-likelihood (McCullagh & Nelder 1989, chapter 9), and the
    benchmark says how good.
    """

    floor: float = 1.0
    """Declared in the plan: phi is never taken to be less."""
    last: tuple[int, int] = (0, 0)
    """Requests and events of the interval before."""
    squares: float = 0.0
    """Sum of the squared differences over the pairs."""
    expected: float = 0.0
    """Sum of what independent events would give."""
    weights: float = 0.0
    """Sum of the squares of that, for the number of pairs that count."""

    def updated(self, n: int, e: int) -> Overdispersion:
        """With one more interval: e events among n requests of both arms. Raises DataError."""
        check_counts(e, n, "both arms together")
        if n == 0:
            return self
        before, had = self.last
        if before == 0:
            return Overdispersion(self.floor, (n, e), self.squares, self.expected, self.weights)
        expected = (had + e) * (1 - (had + e) / (before + n))
        difference = had * n - e * before
        return Overdispersion(
            self.floor,
            (n, e),
            self.squares + difference * difference / (n * before),
            self.expected + expected,
            self.weights + expected * expected,
        )

    @property
    def phi(self) -> float:
        """What the estimate has above 1 is raised by one relative standard error; `floor` at least.

        That keeps the first few bursts from passing for independent events, and costs little where
        events are independent. After one interval nothing can be compared: all its events are then
        taken for one burst.
        """
        if self.expected == 0:
            return max(self.floor, float(self.last[1]))
        estimate = self.squares / self.expected
        error = math.sqrt(2 * self.weights) / self.expected
        return max(self.floor, 1 + (estimate - 1) * (1 + error))

    def to_json(self) -> dict[str, Any]:
        return {
            "floor": self.floor,
            "last": list(self.last),
            "squares": self.squares,
            "expected": self.expected,
            "weights": self.weights,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Overdispersion:
        n, e = found["last"]
        return cls(found["floor"], (n, e), found["squares"], found["expected"], found["weights"])


def phi_of_bursts(sizes: Iterable[int]) -> float:
    """E[k^2]/E[k] of known burst sizes k (failures per client, say). Raises UsageError if none."""
    known = [size for size in sizes if size > 0]
    if not known:
        raise UsageError("no burst of at least one event was given; phi needs some")
    return sum(size * size for size in known) / sum(known)
