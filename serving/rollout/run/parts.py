"""Source, actuator and lease of a run, from the settings it was started with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from serving.errors import PlayerError, UsageError
from serving.local.client import LocalPlayer
from serving.rollout.actuators.actuator import Actuator, Plane
from serving.rollout.actuators.git import GitActuator
from serving.rollout.actuators.local import LocalActuator
from serving.rollout.gate.plan import Plan, check_actuator
from serving.rollout.manifest import read_manifest
from serving.rollout.overlay import read_rollout
from serving.rollout.run.lease import FileLease, Lease
from serving.rollout.run.store import FOLDER, Runs
from serving.rollout.sources import (
    MetricsSource,
    PredictorSource,
    PrometheusSource,
    RecordedSource,
    cluster_targets,
    local_targets,
)
from serving.rollout.sources.predictors import Targets


class GateSettings(BaseModel):
    """How a run is led; kept with the run, so that `abort` and the dead-man act alike."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path
    """The deploy folder: manifest.yaml, rollout.yaml, plan.yaml."""
    actuator: Literal["local", "git", "kubernetes"] = "local"
    """Who makes a move: the player, a commit, or the gate itself on the cluster."""
    traffic: Literal["local", "cluster"] | None = None
    """Where a commit takes effect (actuator git): the player, applied here, or a cluster."""
    push: bool = False
    """Whether commits are pushed, and the branch kept equal to its upstream."""
    source: Literal["predictors", "prometheus", "file"] = "predictors"
    prometheus_url: str = ""
    prometheus_matchers: str | None = None
    """Added to every selector; without it the namespace's."""
    recorded: Path | None = None
    """The file of intervals (source file)."""
    state_dir: Path | None = None
    """The player's; its default otherwise."""
    runs_dir: Path | None = None
    """Where runs are kept; in the deploy folder otherwise."""
    context: str | None = None
    """kubeconfig's context; the current one otherwise."""
    deadman_seconds: Annotated[float, Field(gt=0)] | None = None
    """Silence after which the dead-man acts; five looks and a minute otherwise."""

    @property
    def on_cluster(self) -> bool:
        return self.actuator == "kubernetes" or self.traffic == "cluster"

    @property
    def runs(self) -> Runs:
        return Runs(self.runs_dir or self.folder / FOLDER)

    def stale_after(self, plan: Plan) -> float:
        """Seconds of silence that no living gate keeps."""
        return self.deadman_seconds or 60.0 + 5 * plan.look_seconds


@dataclass(frozen=True)
class Parts:
    source: MetricsSource
    actuator: Actuator
    lease: Lease
    digest: Callable[[str], str]
    """The bundle's digest by predictor name; empty where it cannot be known."""


def build(settings: GateSettings, plan: Plan) -> Parts:
    """Raises UsageError for settings that do not go together, GateError when a cluster or a
    repository is not there."""
    check_actuator(plan, "local" if not settings.on_cluster else settings.actuator)
    state = read_rollout(settings.folder)
    lease: Lease = FileLease(settings.runs.lease_file)
    if not settings.on_cluster:
        player = LocalPlayer(settings.state_dir)
        local = LocalActuator(settings.folder, player)
        actuator: Actuator = local
        if settings.actuator == "git":
            actuator = GitActuator(settings.folder, local, push=settings.push, apply=local.apply)
        source = _source(settings, plan, state.namespace, local_targets(player))
        return Parts(source, actuator, lease, lambda name: _digest(player, name))
    # Imported late: the client takes a second, and on one machine nobody needs it.
    from serving.rollout.actuators.cluster import Cluster  # noqa: PLC0415
    from serving.rollout.actuators.cluster_lease import ClusterLease  # noqa: PLC0415
    from serving.rollout.actuators.kubernetes import (  # noqa: PLC0415
        KubernetesActuator,
        KubernetesPlane,
    )

    cluster = Cluster.connect(settings.context)
    plane = KubernetesPlane(cluster, state.service, state.namespace)
    actuator = (
        KubernetesActuator(cluster, read_manifest(settings.folder))
        if settings.actuator == "kubernetes"
        else _committing(settings, plane)
    )
    lease = Both(lease, ClusterLease(cluster, state.service, state.namespace))
    source = _source(settings, plan, state.namespace, cluster_targets(plane.pods))
    return Parts(source, actuator, lease, lambda _: "")


class Both:
    """Two leases as one: the folder's and the cluster's."""

    def __init__(self, first: Lease, second: Lease) -> None:
        self._leases = (first, second)

    def take(self) -> None:
        first, second = self._leases
        first.take()
        try:
            second.take()
        except BaseException:
            first.release()
            raise

    def renew(self) -> None:
        for lease in self._leases:
            lease.renew()

    def release(self) -> None:
        for lease in reversed(self._leases):
            lease.release()


def _committing(settings: GateSettings, plane: Plane) -> Actuator:
    return GitActuator(settings.folder, plane, push=settings.push)


def _source(settings: GateSettings, plan: Plan, namespace: str, targets: Targets) -> MetricsSource:
    if settings.source == "prometheus":
        if not settings.prometheus_url:
            raise UsageError("source prometheus: no address; give --prometheus URL")
        matchers = settings.prometheus_matchers
        return PrometheusSource(
            settings.prometheus_url,
            step_seconds=plan.look_seconds,
            matchers=f'namespace="{namespace}"' if matchers is None else matchers,
            slow_seconds=plan.slo_seconds,
        )
    if settings.source == "file":
        if settings.recorded is None:
            raise UsageError("source file: no file; give --recorded FILE")
        return RecordedSource(settings.recorded)
    labels = plan.metric("labels") is not None
    return PredictorSource(targets, slow_seconds=plan.slo_seconds, labels=labels)


def _digest(player: LocalPlayer, name: str) -> str:
    try:
        return player.status().arm(name).digest or ""
    except (PlayerError, KeyError):
        return ""
