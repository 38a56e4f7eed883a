"""What is known of a rate: errors, slow answers, wrong predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from serving.rollout.evidence import (
    AbsoluteEvidence,
    Overdispersion,
    RelativeEvidence,
    log_mean,
    threshold,
)
from serving.rollout.gate.observation import ArmCounts, Observation
from serving.rollout.gate.plan import Labels, Plan, RateMetric

# Shares of the evidence for a rollback. All but the first answer a canary that was good at first:
# what was gathered then must not shield it for long.
WHOLE_RUN, SINCE_STEP, AT_FULL = 0.8, 0.1, 0.1
AGAINST_STABLE, AGAINST_SLO = 0.25, 0.75
"""Shares of the evidence for the promotion. The SLO's proof is the one that a canary without
failures has, so its share is what such a canary waits for; any fixed shares keep beta."""
DOUBT = threshold(0.25)
"""ln E since the step began above which no step is taken, though it is too little to roll back."""

Stratum = tuple[int, int, int, int]
"""(canary's requests, its events, stable's requests, its events), comparable with each other."""


@dataclass(frozen=True)
class RateProof:
    """Everything about one rate. ln E for a rollback is the weighted mean of three e-processes:
    against stable over the whole run, against stable since the step began (each step has its part
    of the weight), and, from 100 % on, against psi_max times the larger of the SLO's rate and the
    rate stable had. A mean of e-processes is one, so the metric's alpha bounds all of it.
    """

    kind: str
    relative: RelativeEvidence
    absolute: AbsoluteEvidence
    at_step: tuple[float, ...]
    """relative.log_bad as the step began."""
    full: AbsoluteEvidence | None = None
    dispersion: Overdispersion | None = None
    """None where the plan declares phi."""
    canary: tuple[int, int] = (0, 0)
    """Requests and events so far."""
    stable: tuple[int, int] = (0, 0)

    @classmethod
    def fresh(cls, plan: Plan, metric: RateMetric) -> RateProof:
        phi = 1.0 if isinstance(plan.dispersion, str) else float(plan.dispersion)
        relative = RelativeEvidence(psi_max=plan.psi_max, phi=phi)
        return cls(
            kind=metric.kind,
            relative=relative,
            absolute=AbsoluteEvidence(p_max=metric.max_rate, phi=phi),
            at_step=relative.log_bad,
            dispersion=Overdispersion() if isinstance(plan.dispersion, str) else None,
        )

    def updated(self, metric: RateMetric, observation: Observation) -> RateProof:
        """With one more interval; an arm without data adds nothing to what needs it."""
        found = self
        for stratum in strata(metric, observation):
            found = found._with(*stratum)
        return found

    def _with(self, n_c: int, x: int, n_s: int, s: int) -> RateProof:
        dispersion = self.dispersion
        if dispersion is not None:
            dispersion = dispersion.updated(n_c + n_s, x + s)
        phi = self.relative.phi if dispersion is None else dispersion.phi
        return replace(
            self,
            relative=self.relative.updated(n_c, x, n_s, s).with_phi(phi),
            absolute=self.absolute.updated(n_c, x).with_phi(phi),
            full=None if self.full is None else self.full.updated(n_c, x).with_phi(phi),
            dispersion=dispersion,
            canary=(self.canary[0] + n_c, self.canary[1] + x),
            stable=(self.stable[0] + n_s, self.stable[1] + s),
        )

    def at_new_step(self, share: int, psi_max: float) -> RateProof:
        found = replace(self, at_step=self.relative.log_bad)
        if share < 100 or self.full is not None:
            return found
        n, s = self.stable
        rate = max(self.absolute.p_max, s / n if n else 0.0)
        # As odds, which stay below those of a rate of 1 whatever they are multiplied with.
        odds = psi_max * rate / (1 - rate) if rate < 1 else math.inf
        if odds > 99:
            return found
        return replace(found, full=AbsoluteEvidence(odds / (1 + odds), self.absolute.phi))

    @cached_property
    def since_step(self) -> float:
        """ln E, since the step began, that the canary is worse than stable."""
        gains = zip(self.relative.log_bad, self.at_step, strict=True)
        return log_mean([(now - then) / self.relative.phi for now, then in gains])

    def log_bad(self, steps: int) -> float:
        """ln E for a rollback in a plan of that many steps."""
        logs = [self.relative.log_e_bad, self.since_step]
        weights = [WHOLE_RUN, SINCE_STEP / steps]
        if self.full is not None:
            logs.append(self.full.log_e_bad)
            weights.append(AT_FULL)
        return log_mean(logs, weights)

    def log_good(self, share: int, last: bool) -> float:
        """ln E for leaving the step of `share` percent; `last`: it is left for the promotion.

        At 100 % only the canary's own SLO counts. Elsewhere either proof will do; but taking
        whichever comes first allows a canary that is bad in both ways up to 2 beta, so the
        promotion itself asks for their weighted mean, which allows it beta.
        """
        if share == 100:
            return self.absolute.log_e_good
        either = (self.relative.log_e_good, self.absolute.log_e_good)
        return log_mean(either, (AGAINST_STABLE, AGAINST_SLO)) if last else max(either)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "relative": self.relative.to_json(),
            "absolute": self.absolute.to_json(),
            "at_step": list(self.at_step),
            "full": None if self.full is None else self.full.to_json(),
            "dispersion": None if self.dispersion is None else self.dispersion.to_json(),
            "canary": list(self.canary),
            "stable": list(self.stable),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> RateProof:
        full, dispersion = found["full"], found["dispersion"]
        return cls(
            kind=found["kind"],
            relative=RelativeEvidence.from_json(found["relative"]),
            absolute=AbsoluteEvidence.from_json(found["absolute"]),
            at_step=tuple(found["at_step"]),
            full=None if full is None else AbsoluteEvidence.from_json(full),
            dispersion=None if dispersion is None else Overdispersion.from_json(dispersion),
            canary=(found["canary"][0], found["canary"][1]),
            stable=(found["stable"][0], found["stable"][1]),
        )


def strata(metric: RateMetric, observation: Observation) -> list[Stratum]:
    """What of an interval may be compared: all of it, or, for labels, age by age."""
    stable, canary = observation.stable, observation.canary
    if not isinstance(metric, Labels):
        return [(*_requests(metric.kind, canary), *_requests(metric.kind, stable))]
    ours, theirs = _mature(metric, canary), _mature(metric, stable)
    return [(*ours.get(age, (0, 0)), *theirs.get(age, (0, 0))) for age in sorted({*ours, *theirs})]


def _requests(kind: str, arm: ArmCounts | None) -> tuple[int, int]:
    if arm is None:
        return 0, 0
    return arm.requests, arm.errors if kind == "errors" else arm.slow


def _mature(metric: Labels, arm: ArmCounts | None) -> dict[int, tuple[int, int]]:
    found: dict[int, tuple[int, int]] = {}
    for cohort in () if arm is None else arm.labels:
        if cohort.age_days >= metric.mature_days:
            n, wrong = found.get(cohort.age_days, (0, 0))
            found[cohort.age_days] = (n + cohort.n, wrong + cohort.wrong)
    return found
