"""What stands beside KServe: Kubernetes itself, Eventing, the Prometheus operator, Pipelines."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seatrial.doctor.finding import Finding, broken, fine, limited
from seatrial.doctor.reader import Reader

OLDEST = (1, 30)
"""KServe 0.21 supports it; Pod Security admission and server-side field validation are older."""
KFP = "/apis/apps/v1/namespaces/kubeflow/deployments/ml-pipeline"


def check_kubernetes(reader: Reader) -> Iterator[Finding]:
    """The API server's version."""
    told = str((reader.find("/version") or {}).get("gitVersion", ""))
    match = re.match(r"v?(\d+)\.(\d+)", told)
    if match and (int(match[1]), int(match[2])) < OLDEST:
        yield broken("Kubernetes", f"{told} is older than 1.30", "upgrade the cluster")
    elif match:
        yield fine("Kubernetes", told)


def check_eventing(reader: Reader) -> Iterator[Finding]:
    """Drift events go over a Broker where there is one, else straight to the receiver."""
    if {"Broker", "Trigger"} <= reader.kinds("eventing.knative.dev/v1"):
        yield fine("Knative Eventing", "is there: the component drift can be used")
    else:
        yield limited(
            "Knative Eventing",
            "is not there: no Broker, retries and dead letters for drift events",
            "use the component drift-plain, or install Knative Eventing",
        )


def check_prometheus(reader: Reader) -> Iterator[Finding]:
    """PodMonitors and PrometheusRules need the operator; the gate reads Prometheus in a cluster."""
    if {"PodMonitor", "PrometheusRule"} <= reader.kinds("monitoring.coreos.com/v1"):
        yield fine("Prometheus operator", "is there: the component monitoring can be used")
    else:
        yield limited(
            "Prometheus operator",
            "is not there: no alerts, and the gate reads the predictors' own /metrics",
            "install kube-prometheus, or leave the component monitoring out",
        )


def check_pipelines(reader: Reader) -> Iterator[Finding]:
    """Kubeflow Pipelines, and where it keeps pipelines: decides how they are installed."""
    found = reader.find(KFP)
    if found is None:
        yield limited(
            "Kubeflow Pipelines",
            "no deployment ml-pipeline in namespace kubeflow: drift events cannot start a run",
            "install Kubeflow Pipelines, or train elsewhere",
        )
        return
    containers = found["spec"]["template"]["spec"]["containers"]
    words = [w for c in containers for w in (*(c.get("command") or ()), *(c.get("args") or ()))]
    said = [e.get("value") for c in containers for e in c.get("env") or ()]
    kubernetes = any("pipelinesStoreKubernetes=true" in str(word) for word in (*words, *said))
    served = "PipelineVersion" in reader.kinds("pipelines.kubeflow.org/v2beta1")
    if kubernetes and served:
        yield fine("Kubeflow Pipelines", "keeps pipelines as objects: use the component pipelines")
    else:
        yield fine(
            "Kubeflow Pipelines",
            "keeps pipelines in its database: use the component pipelines-upload",
        )
