"""Nodes: enough of them, and GPUs where the overlay asks for some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from seatrial.doctor.finding import Finding, Level, broken, fine, limited
from seatrial.doctor.reader import Object, Reader

GPU = "nvidia.com/gpu"
NODES = "/api/v1/nodes"


def gpu_nodes(reader: Reader) -> list[Object]:
    """Nodes that have a GPU to give."""
    return [n for n in reader.items(NODES) if _gpus(n)]


def check_gpus(
    reader: Reader,
    pods: Sequence[tuple[str, Object]],
    *,
    copies: int = 2,
    settings: str = "manifests/components/gpu",
    without: str = "use the overlay cpu",
) -> Iterator[Finding]:
    """Whether some node would take each pod that asks for a GPU.

    pods: (name, pod spec). copies: of each that run at once, stable and a canary. settings: where
    what a pod asks for is written. without: how to do without GPUs.
    """
    wanting = [(name, pod) for name, pod in pods if _asked(pod)]
    if not wanting:
        return
    nodes = reader.items(NODES)
    if not reader.may(NODES):
        yield Finding(
            Level.UNKNOWN, "GPU nodes", "nodes may not be listed", "kubectl auth can-i list nodes"
        )
        return
    having = gpu_nodes(reader)
    if not having:
        yield broken(
            "GPU nodes",
            f"none of {len(nodes)} nodes has {GPU} to give",
            f"install the NVIDIA device plugin on a GPU node pool, or {without}",
        )
        return
    for name, pod in wanting:
        yield _placed(name, pod, having, copies, settings)


def _placed(name: str, pod: Object, nodes: Sequence[Object], copies: int, settings: str) -> Finding:
    selector: Mapping[str, str] = pod.get("nodeSelector") or {}
    selected = [n for n in nodes if selector.items() <= _labels(n).items()]
    if not selected:
        some = nodes[0]["metadata"]["name"]
        labels = " ".join(f"{key}={value}" for key, value in selector.items())
        return broken(
            "GPU nodes",
            f"{name}: no GPU node has the labels {labels}; the pod would wait for ever",
            f"kubectl label node {some} {labels}",
        )
    free = [n for n in selected if not _untolerated(n, pod.get("tolerations") or ())]
    if not free:
        taint = _untolerated(selected[0], pod.get("tolerations") or ())[0]
        return broken(
            "GPU nodes",
            f"{name}: every GPU node is tainted, as {selected[0]['metadata']['name']} by"
            f" {taint['key']}={taint.get('value', '')}:{taint['effect']}",
            f"add that toleration to {settings}",
        )
    room = max(_gpus(n) for n in free)
    if room < _asked(pod):
        return broken(
            "GPU nodes",
            f"{name} asks for {_asked(pod)} GPUs, the largest node has {room}",
            f"lower the limit in {settings}",
        )
    total = sum(_gpus(n) for n in free)
    if total < copies * _asked(pod):
        return limited(
            "GPU nodes",
            f"{name}: {total} GPU in all, and a canary needs {copies * _asked(pod)} beside stable",
            "add a GPU node before a rollout",
        )
    return fine("GPU nodes", f"{name}: {len(free)} nodes with {total} GPUs would take it")


def _asked(pod: Object) -> int:
    containers = pod.get("containers") or ()
    limits = [(c.get("resources") or {}).get("limits") or {} for c in containers]
    return sum(int(limit.get(GPU, 0)) for limit in limits)


def _gpus(node: Object) -> int:
    return int(((node.get("status") or {}).get("allocatable") or {}).get(GPU, 0))


def _labels(node: Object) -> Mapping[str, str]:
    return node["metadata"].get("labels") or {}


def _untolerated(node: Object, tolerations: Sequence[Object]) -> list[Object]:
    taints = (node.get("spec") or {}).get("taints") or ()
    return [
        taint
        for taint in taints
        if taint["effect"] != "PreferNoSchedule"
        and not any(_tolerates(toleration, taint) for toleration in tolerations)
    ]


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("key") in (None, ""):
        return toleration.get("operator") == "Exists"
    if toleration["key"] != taint["key"]:
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get(
        "value", ""
    )
