"""What is known of a distribution: scores over stable's deciles, the mix of decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from serving.rollout.evidence import Overdispersion, ShiftEvidence, deciles, rebinned
from serving.rollout.gate.observation import ArmCounts, Observation
from serving.rollout.gate.plan import Plan, ShiftMetric

REFERENCE_ROWS = 100
"""Rows of stable from which its bins are cut; they are in no test."""
OWN_BIN = 0.05
"""Share of stable's rows from which a decision is a bin of its own; rarer ones are one bin."""


@dataclass(frozen=True)
class ShiftProof:
    """Bins are cut from stable's first rows and then fixed; evidence begins after that."""

    kind: str
    tolerance: float
    phi: float = 1.0
    reference: tuple[tuple[str, int], ...] = ()
    """Rows of stable by score bucket or decision, while no bins are cut."""
    edges: tuple[float, ...] = ()
    """Of the score buckets that the reference was counted in."""
    cuts: tuple[float, ...] = ()
    """Edges between the bins of scores."""
    names: tuple[str, ...] = ()
    """Decisions that are bins; all others share the last one."""
    evidence: ShiftEvidence | None = None
    """None while no bins are cut."""
    dispersion: Overdispersion | None = None
    canary: tuple[int, ...] = ()
    """Rows per bin so far."""
    stable: tuple[int, ...] = ()

    @classmethod
    def fresh(cls, plan: Plan, metric: ShiftMetric) -> ShiftProof:
        estimate = isinstance(plan.dispersion, str)
        return cls(
            kind=metric.kind,
            tolerance=metric.tolerance,
            phi=1.0 if isinstance(plan.dispersion, str) else float(plan.dispersion),
            dispersion=Overdispersion() if estimate else None,
        )

    def updated(self, observation: Observation) -> ShiftProof:
        stable, canary = observation.stable, observation.canary
        if self.evidence is None:
            return self if stable is None else self._referenced(stable, observation.score_edges)
        if stable is None or canary is None:
            return self
        ours = self._bins(canary, observation.score_edges)
        theirs = self._bins(stable, observation.score_edges)
        if not sum(ours) or not sum(theirs):
            return self
        dispersion, phi = self.dispersion, self.phi
        if dispersion is not None:
            # Rows above the middle cut: requests of many like rows are bursts of those.
            middle = (len(ours) + 1) // 2
            above = sum(ours[middle:]) + sum(theirs[middle:])
            dispersion = dispersion.updated(sum(ours) + sum(theirs), above)
            phi = dispersion.phi
        return replace(
            self,
            evidence=self.evidence.updated(ours, theirs).with_phi(phi),
            dispersion=dispersion,
            canary=_sum(self.canary, ours),
            stable=_sum(self.stable, theirs),
        )

    def _referenced(self, stable: ArmCounts, edges: tuple[float, ...]) -> ShiftProof:
        """With stable's rows as reference, and the bins cut once there are enough."""
        rows = dict(stable.decisions)
        if self.kind == "scores":
            if not edges or not stable.scores:
                return self
            rows = {f"{i:04d}": n for i, n in enumerate(stable.scores)}
        same = self.kind == "decisions" or edges == self.edges
        before = dict(self.reference) if same else {}
        held = {name: before.get(name, 0) + rows.get(name, 0) for name in {*before, *rows}}
        found = replace(self, reference=tuple(sorted(held.items())), edges=edges)
        if sum(held.values()) < REFERENCE_ROWS:
            return found
        if self.kind == "scores":
            counts = [n for _, n in found.reference]
            cuts = deciles(edges, counts) or _around_heaviest(edges, counts)
            bins = len(cuts) + 1
            found = replace(found, cuts=cuts)
        else:
            names = _frequent(held)
            bins = len(names) + 1
            found = replace(found, edges=(), names=names)
        evidence = ShiftEvidence(bins, self.tolerance, self.phi)
        return replace(
            found, reference=(), evidence=evidence, canary=(0,) * bins, stable=(0,) * bins
        )

    def _bins(self, arm: ArmCounts, edges: tuple[float, ...]) -> tuple[int, ...]:
        """Rows per bin; () where the arm counted in other buckets than the reference."""
        if self.kind == "scores":
            if edges != self.edges or not arm.scores:
                return ()
            return rebinned(edges, arm.scores, self.cuts)
        counts = dict(arm.decisions)
        named = [counts.pop(name, 0) for name in self.names]
        return (*named, sum(counts.values()))

    @property
    def log_beyond(self) -> float:
        """ln E that it has moved past the tolerance."""
        return 0.0 if self.evidence is None else self.evidence.log_e

    @property
    def log_good(self) -> float:
        """ln E that every bin is within the tolerance."""
        return 0.0 if self.evidence is None else self.evidence.log_e_good

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "tolerance": self.tolerance,
            "phi": self.phi,
            "reference": dict(self.reference),
            "edges": list(self.edges),
            "cuts": list(self.cuts),
            "names": list(self.names),
            "evidence": None if self.evidence is None else self.evidence.to_json(),
            "dispersion": None if self.dispersion is None else self.dispersion.to_json(),
            "canary": list(self.canary),
            "stable": list(self.stable),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> ShiftProof:
        evidence, dispersion = found["evidence"], found["dispersion"]
        return cls(
            kind=found["kind"],
            tolerance=found["tolerance"],
            phi=found["phi"],
            reference=tuple(sorted(found["reference"].items())),
            edges=tuple(found["edges"]),
            cuts=tuple(found["cuts"]),
            names=tuple(found["names"]),
            evidence=None if evidence is None else ShiftEvidence.from_json(evidence),
            dispersion=None if dispersion is None else Overdispersion.from_json(dispersion),
            canary=tuple(found["canary"]),
            stable=tuple(found["stable"]),
        )


def _around_heaviest(edges: tuple[float, ...], counts: list[int]) -> tuple[float, ...]:
    """Where one bucket holds nearly all there are no deciles: that bucket against the rest."""
    heaviest = counts.index(max(counts))
    return (edges[min(heaviest, len(edges) - 1)],)


def _frequent(held: Mapping[str, int]) -> tuple[str, ...]:
    """The decisions that are bins; one frequent decision at least is left to the last bin's rest.

    Where none is rare the rarest one is the rest, for an empty bin could never be proven equal.
    """
    total = sum(held.values())
    ranked = sorted(held, key=lambda name: (-held[name], name))
    kept = [name for name in ranked if held[name] >= OWN_BIN * total]
    rare = total - sum(held[name] for name in kept)
    if len(kept) > 1 and rare < OWN_BIN * total:
        kept.pop()
    return tuple(sorted(kept))


def _sum(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))
