"""KServe's controller as far as a rollout in Standard mode goes, without a cluster.

It does what was observed of the real one: objects of arms that are no longer listed go first, then
pods are scaled, and the route follows last, unless stable is not ready.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from serving.rollout import Arm, RolloutState


class Refused(Exception):
    """By the admission webhook."""


@dataclass(frozen=True)
class Strategy:
    """deploymentStrategy.rollingUpdate of stable; KServe gives canaries none."""

    max_unavailable: int | str = "50%"
    max_surge: int | str = 1

    def least(self, desired: int) -> int:
        """Ready pods from which Kubernetes calls a Deployment available (ResolveFenceposts)."""
        surge = math.ceil(_pods(self.max_surge, desired))
        unavailable = math.floor(_pods(self.max_unavailable, desired))
        if surge == unavailable == 0:
            unavailable = 1
        return max(0, desired - unavailable)


@dataclass
class Pods:
    arm: Arm
    desired: int = 0
    ready: int = 0


@dataclass
class Controller:
    """One InferenceService. `windows` lists every moment in which a share of the traffic had no
    backend, and `dips` every time that the controller itself took stable below its floor."""

    state: RolloutState
    strategy: Strategy = Strategy()
    floor: int = 0
    """Pods that stable is to keep; at first what the state says."""
    deployments: dict[str, Pods] = field(default_factory=dict)
    route: dict[str, int] = field(default_factory=dict)
    windows: list[str] = field(default_factory=list)
    dips: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.floor = self.floor or self.state.floor
        self._reconcile()
        self.settle()
        # Nobody was served before the first pod was there.
        self.windows.clear()

    def apply(self, after: RolloutState) -> None:
        """Raises Refused as the webhook does, with nothing changed."""
        before = self.state
        if (
            after.stable.name != before.stable.name
            and after.stable.storage_uri == before.stable.storage_uri
        ):
            raise Refused("predictor.name changes and storageUri does not")
        for canary in after.canaries:
            if canary.arm.min_replicas > after.stable.min_replicas:
                raise Refused("a canary's minReplicas is above stable's")
        self.state = after
        self._reconcile()

    def start(self, name: str) -> None:
        """One more pod of the arm becomes ready."""
        pods = self.deployments[name]
        pods.ready = min(pods.ready + 1, pods.desired)
        self._reconcile()

    def lose(self, name: str) -> None:
        """One pod of the arm is gone, with its node for example."""
        pods = self.deployments[name]
        pods.ready = max(pods.ready - 1, 0)
        self._reconcile()

    def settle(self) -> None:
        """All pods become ready."""
        while any(pods.ready < pods.desired for pods in self.deployments.values()):
            for name in self.deployments:
                self.start(name)

    @property
    def settled(self) -> bool:
        """What an actuator waits for: the route says what is written."""
        return self.route == self.state.weights

    @property
    def predictor_ready(self) -> bool:
        stable = self.deployments[self.state.stable.name]
        return stable.ready >= self.strategy.least(stable.desired)

    def _reconcile(self) -> None:
        listed = {arm.name: arm for arm in self.state.arms}
        for name in [name for name in self.deployments if name not in listed]:
            del self.deployments[name]
        for name, arm in listed.items():
            self.deployments.setdefault(name, Pods(arm)).arm = arm
        self._look("before the route moves")
        self._scale()
        # While stable is not ready the route stands still.
        if self.predictor_ready:
            ready = {c.arm.name: c.weight for c in self.state.canaries if self._ready(c.arm)}
            self.route = {self.state.stable.name: 100 - sum(ready.values()), **ready}
        self._look("after the route moved")

    def _scale(self) -> None:
        """Every canary that is ready is taken from stable's minReplicas, at 0 % too."""
        for canary in self.state.canaries:
            self._resize(canary.arm.name, canary.arm.min_replicas)
        taken = sum(c.arm.min_replicas for c in self.state.canaries if self._ready(c.arm))
        stable = self.state.stable
        before = self.deployments[stable.name].ready
        self._resize(stable.name, max(stable.min_replicas - taken, 1))
        after = self.deployments[stable.name].ready
        if after < min(before, self.floor):
            self.dips.append(f"{stable.name}: {before} pods became {after}")

    def _resize(self, name: str, desired: int) -> None:
        pods = self.deployments[name]
        pods.desired, pods.ready = desired, min(pods.ready, desired)

    def _ready(self, arm: Arm) -> bool:
        """A canary's `ready` means one available replica."""
        return self.deployments[arm.name].ready > 0

    def _look(self, when: str) -> None:
        for name, weight in self.route.items():
            if weight and name not in self.deployments:
                self.windows.append(f"{weight} % for {name}, which is gone, {when}")
            elif weight and not self.deployments[name].ready:
                self.windows.append(f"{weight} % for {name}, which has no ready pod, {when}")


def _pods(value: int | str, desired: int) -> float:
    return value if isinstance(value, int) else desired * int(value.removesuffix("%")) / 100
