"""All that is known of a canary, metric by metric, and how far it is from a decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from serving.errors import DataError
from serving.rollout.evidence import threshold
from serving.rollout.gate.observation import ArmCounts, Observation
from serving.rollout.gate.plan import Plan, RateMetric, ShiftMetric
from serving.rollout.gate.rates import DOUBT, RateProof
from serving.rollout.gate.shifts import ShiftProof


@dataclass(frozen=True)
class Reading:
    """One metric's evidence beside what is asked of it, all as ln E."""

    kind: str
    against: float
    """That the canary is worse than stable (rates), or past the tolerance (shifts)."""
    against_at: float
    """From here on it is rolled back (rates) or held (shifts)."""
    good: float
    """That it is not bad, or within the tolerance."""
    good_at: float
    """From here on the metric is proven."""
    doubted: bool
    """Since the step began the evidence leans against the canary."""
    canary: tuple[int, ...]
    """Requests and events of a rate; rows per bin of a shift."""
    stable: tuple[int, ...]

    @property
    def shift(self) -> bool:
        return self.kind in ("scores", "decisions")

    @property
    def crossed(self) -> bool:
        return self.against >= self.against_at

    @property
    def proven(self) -> bool:
        return self.good >= self.good_at

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "against": _finite(self.against),
            "against_at": self.against_at,
            "good": _finite(self.good),
            "good_at": self.good_at,
            "canary": list(self.canary),
            "stable": list(self.stable),
        }


@dataclass(frozen=True)
class Proofs:
    rates: tuple[RateProof, ...] = ()
    shifts: tuple[ShiftProof, ...] = ()

    @classmethod
    def fresh(cls, plan: Plan) -> Proofs:
        rates = [m for m in plan.metrics if isinstance(m, RateMetric)]
        shifts = [m for m in plan.metrics if isinstance(m, ShiftMetric)]
        return cls(
            tuple(RateProof.fresh(plan, metric) for metric in rates),
            tuple(ShiftProof.fresh(plan, metric) for metric in shifts),
        )

    def updated(self, plan: Plan, observation: Observation) -> Proofs:
        """With one more interval. Raises DataError for counts that contradict each other."""
        for arm in (observation.stable, observation.canary):
            if arm is not None:
                _check(arm, len(observation.score_edges))
        rates = []
        for proof in self.rates:
            metric = plan.metric(proof.kind)
            if isinstance(metric, RateMetric):
                rates.append(proof.updated(metric, observation))
        return Proofs(tuple(rates), tuple(proof.updated(observation) for proof in self.shifts))

    def at_new_step(self, plan: Plan, share: int) -> Proofs:
        rates = tuple(proof.at_new_step(share, plan.psi_max) for proof in self.rates)
        return replace(self, rates=rates)

    def readings(self, plan: Plan, share: int) -> tuple[Reading, ...]:
        """In the plan's order, for a canary that has `share` percent."""
        known = self._read.get((plan.digest, share))
        if known is None:
            known = self._read[plan.digest, share] = self._readings(plan, share)
        return known

    @cached_property
    def _read(self) -> dict[tuple[str, int], tuple[Reading, ...]]:
        """A look reads the same evidence for its decision and for the audit."""
        return {}

    def _readings(self, plan: Plan, share: int) -> tuple[Reading, ...]:
        good_at = threshold(plan.beta)
        found = {
            proof.kind: Reading(
                kind=proof.kind,
                against=proof.log_bad(len(plan.steps)),
                against_at=threshold(plan.alpha_of(proof.kind)),
                good=proof.log_good(share, share == plan.steps[-1]),
                good_at=good_at,
                doubted=share < 100 and proof.since_step >= DOUBT,
                canary=proof.canary,
                stable=proof.stable,
            )
            for proof in self.rates
        } | {
            proof.kind: Reading(
                kind=proof.kind,
                against=proof.log_beyond,
                against_at=threshold(plan.alpha_of(proof.kind)),
                good=proof.log_good,
                good_at=good_at,
                doubted=False,
                canary=proof.canary,
                stable=proof.stable,
            )
            for proof in self.shifts
        }
        return tuple(found[metric.kind] for metric in plan.metrics)

    def to_json(self) -> dict[str, Any]:
        return {
            "rates": [proof.to_json() for proof in self.rates],
            "shifts": [proof.to_json() for proof in self.shifts],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Proofs:
        return cls(
            tuple(RateProof.from_json(proof) for proof in found["rates"]),
            tuple(ShiftProof.from_json(proof) for proof in found["shifts"]),
        )


def _check(arm: ArmCounts, edges: int) -> None:
    """Raises DataError for counts that no interval can have."""
    rows = (*arm.scores, *(n for _, n in arm.decisions))
    cohorts = [n for c in arm.labels for n in (c.wrong, c.n - c.wrong)]
    if min((arm.requests, arm.errors, arm.slow, *rows, *cohorts)) < 0:
        raise DataError("a count is negative; counts are increments of one interval")
    if max(arm.errors, arm.slow) > arm.requests:
        raise DataError(
            f"{max(arm.errors, arm.slow)} events among {arm.requests} requests; an event is one of"
            " the requests"
        )
    if arm.scores and edges and len(arm.scores) != edges + 1:
        raise DataError(
            f"{len(arm.scores)} score counts for {edges} edges; there is one bucket more than edges"
        )


def _finite(value: float) -> float | None:
    # JSON has no infinity; ln 0 is the evidence that one failure leaves a clean alternative.
    return value if abs(value) != float("inf") else None
