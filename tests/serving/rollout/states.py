"""Rollout states for tests."""

from __future__ import annotations

from pathlib import Path

from serving.rollout import (
    Arm,
    Dialect,
    RolloutState,
    promoted,
    rolled_back,
    with_canary,
    with_weight,
    without_canary,
)

ROOT = Path(__file__).parents[3]
BASE = ROOT / "manifests" / "rendered" / "base.yaml"


def uri(name: str) -> str:
    return f"pvc://seatrial-bundles/fraud/{name}"


def arm(name: str, replicas: int = 1) -> Arm:
    return Arm(name, uri(name), replicas)


def stable(replicas: int = 1) -> RolloutState:
    return RolloutState("fraud", "seatrial", arm("v1", replicas))


def story() -> dict[str, RolloutState]:
    """Every state that a release and a failed one pass through, in the Standard dialect."""
    canary = with_canary(stable(), arm("v2"), 10)
    switched = promoted(with_weight(canary, "v2", 50), "v2")
    cleaned = without_canary(switched, "v1")
    bad = with_canary(cleaned, arm("v3"), 10)
    return {
        "stable": stable(),
        "dark": with_weight(canary, "v2", 0),
        "10 %": canary,
        "50 %": with_weight(canary, "v2", 50),
        "100 %": with_weight(canary, "v2", 100),
        "promoted": switched,
        "rolled back after promotion": rolled_back(switched, arm("v1")),
        "cleaned up": cleaned,
        "returned after cleanup": rolled_back(cleaned, arm("v1")),
        "bad canary": bad,
        "bad canary dark": rolled_back(bad),
        "bad canary removed": without_canary(rolled_back(bad), "v3"),
        "two canaries": with_canary(canary, arm("v3"), 20),
    }


def knative_story() -> dict[str, RolloutState]:
    first = RolloutState("fraud", "seatrial", Arm("latest", uri("v1")), dialect=Dialect.KNATIVE)
    canary = with_canary(first, Arm("latest", uri("v2")), 10)
    return {
        "stable": first,
        "10 %": canary,
        "50 %": with_weight(canary, "latest", 50),
        "rolled back": rolled_back(canary),
        "promoted": promoted(canary, "latest"),
    }
