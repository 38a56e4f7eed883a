"""Where the gate's counts come from: the predictors, Prometheus, or a recorded file."""

from serving.rollout.sources.predictors import PredictorSource, Target
from serving.rollout.sources.prometheus import PrometheusSource
from serving.rollout.sources.recorded import RecordedSource
from serving.rollout.sources.source import Arms, Counts, Look, MetricsSource, Snapshot
from serving.rollout.sources.targets import cluster_targets, local_targets

__all__ = [
    "Arms",
    "Counts",
    "Look",
    "MetricsSource",
    "PredictorSource",
    "PrometheusSource",
    "RecordedSource",
    "Snapshot",
    "Target",
    "cluster_targets",
    "local_targets",
]
