"""The typed state of a rollout: what rollout.yaml says, in either of KServe's dialects."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from serving.errors import ManifestError

# KServe's CRD pattern for predictor.name.
NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


class Dialect(Enum):
    """KServe's two canary APIs, by deployment mode."""

    STANDARD = "Standard"
    """`spec.canary`: named arms, all of them in the file."""
    KNATIVE = "Knative"
    """`spec.predictor.canaryTrafficPercent`: the file holds the newest model only."""


def service_of(service: str, name: str) -> str:
    """The Deployment and the Service that KServe makes for an arm (PredictorServiceName)."""
    return f"{service}-{name}-predictor"


LATEST = "latest"
"""Name of the Knative arm that the file describes (Knative's own traffic tag)."""
PREVIOUS = "prev"
"""Name of the Knative arm that serves beside it: the revision last at 100 %."""


@dataclass(frozen=True)
class Arm:
    """One version of the predictor."""

    name: str
    """predictor.name; in the Knative dialect LATEST or PREVIOUS."""
    storage_uri: str
    """Where the bundle is; empty for Knative's PREVIOUS, which only the cluster remembers."""
    min_replicas: int = 1
    """minReplicas as written. A stable arm's covers its canaries (see RolloutState.floor)."""


@dataclass(frozen=True)
class Canary:
    arm: Arm
    weight: int
    """Percent of the traffic, 0 to 100."""


@dataclass(frozen=True)
class RolloutState:
    """Stable predictor and canaries of one InferenceService.

    Raises ManifestError when built into something no cluster should see.
    """

    service: str
    namespace: str
    stable: Arm
    canaries: tuple[Canary, ...] = ()
    dialect: Dialect = Dialect.STANDARD
    model_format: str = "onnx"
    """modelFormat.name, which KServe's schema requires again in every canary."""

    def __post_init__(self) -> None:
        names: set[str] = set()
        for arm in self.arms:
            if not NAME.fullmatch(arm.name):
                raise self._wrong(
                    f"predictor name '{arm.name}' is not a lower-case DNS label; rename it"
                )
            if arm.name in names:
                raise self._wrong(f"predictor name '{arm.name}' is used twice; rename one")
            names.add(arm.name)
            if arm.min_replicas < 1:
                raise self._wrong(
                    f"minReplicas of '{arm.name}' is {arm.min_replicas}; set 1 or more, because an"
                    " arm without pods can neither serve nor be rolled back to"
                )
            if not arm.storage_uri and arm.name != PREVIOUS:
                raise self._wrong(f"storageUri of '{arm.name}' is empty; name its bundle")
        for canary in self.canaries:
            if not 0 <= canary.weight <= 100:
                raise self._wrong(
                    f"trafficPercent of '{canary.arm.name}' is {canary.weight}; set 0 to 100"
                )
        if self.stable_weight < 0:
            raise self._wrong(f"trafficPercent sums to {100 - self.stable_weight}; 100 is the most")
        if self.dialect is Dialect.KNATIVE:
            self._check_knative()
            return
        for canary in self.canaries:
            if canary.arm.min_replicas > self.stable.min_replicas:
                raise self._wrong(
                    f"minReplicas of canary '{canary.arm.name}' is {canary.arm.min_replicas}, above"
                    f" stable's {self.stable.min_replicas}; raise stable's"
                )

    @property
    def arms(self) -> tuple[Arm, ...]:
        return (self.stable, *(canary.arm for canary in self.canaries))

    @property
    def stable_weight(self) -> int:
        """Percent of the traffic that is left to stable."""
        return 100 - sum(canary.weight for canary in self.canaries)

    @property
    def weights(self) -> dict[str, int]:
        """Percent of the traffic by arm, stable first."""
        return {
            self.stable.name: self.stable_weight,
            **{canary.arm.name: canary.weight for canary in self.canaries},
        }

    @property
    def floor(self) -> int:
        """Stable pods that stay while every canary is ready.

        KServe takes the replicas of ready canaries from stable's, at 0 % too, down to one
        (`adjustStableMinReplicasForCanaries` in its controller). So stable's minReplicas is
        written as its own N plus the canaries' C.
        """
        if self.dialect is Dialect.KNATIVE:
            return self.stable.min_replicas
        return max(1, self.stable.min_replicas - sum(c.arm.min_replicas for c in self.canaries))

    def canary(self, name: str) -> Canary:
        """The canary of that name. Raises ManifestError when it is not listed."""
        for canary in self.canaries:
            if canary.arm.name == name:
                return canary
        listed = ", ".join(c.arm.name for c in self.canaries) or "none"
        raise self._wrong(f"no canary '{name}' is listed (listed: {listed})")

    def _check_knative(self) -> None:
        names = [arm.name for arm in self.arms]
        if names not in ([LATEST], [PREVIOUS, LATEST]):
            raise self._wrong(
                "the Knative dialect has the arm 'latest' and, during a canary, 'prev' before it;"
                " use the Standard dialect for named arms or several canaries"
            )

    def _wrong(self, what: str) -> ManifestError:
        return ManifestError(f"rollout of '{self.service}': {what}")
