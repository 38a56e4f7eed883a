"""Would the API server take each object, and does the namespace leave room for its pods?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

from kubernetes.utils.quantity import parse_quantity

from seatrial.doctor.finding import Finding, broken, fine, limited
from seatrial.doctor.overlay import Overlay
from seatrial.doctor.reader import Object, Reader

_NEEDS = {
    "serving.kserve.io": "install KServe 0.21 or newer",
    "cert-manager.io": "install cert-manager, which KServe needs too, or leave security-tls out",
    "gateway.networking.k8s.io": "install the Gateway API's CRDs",
    "gateway.envoyproxy.io": "install Envoy Gateway, or leave out the components gpu-fallback,"
    " security-gateway and security-tls",
    "eventing.knative.dev": "install Knative Eventing, or use the component drift-plain",
    "monitoring.coreos.com": "install the Prometheus operator, or leave monitoring out",
    "pipelines.kubeflow.org": "start KFP with --pipelinesStoreKubernetes=true, or use the"
    " component pipelines-upload",
    "machinelearning.seldon.io": "install Seldon Core, or leave the component seldon out",
}


def check_kinds(reader: Reader, overlay: Overlay) -> Iterator[Finding]:
    """A kind that the cluster does not serve stops the whole apply."""
    wanted = Counter((item["apiVersion"], item["kind"]) for item in overlay.objects)
    unknown = False
    for (api_version, kind), count in sorted(wanted.items()):
        if kind not in reader.kinds(api_version):
            unknown = True
            group = api_version.partition("/")[0]
            yield broken(
                "kinds",
                f"{count} {kind} ({api_version}) in the overlay, which the cluster does not serve",
                _NEEDS.get(group, "upgrade the cluster"),
            )
    if not unknown:
        yield fine("kinds", f"all {len(wanted)} kinds of the overlay are served")


def check_quota(reader: Reader, overlay: Overlay) -> Iterator[Finding]:
    """Each ResourceQuota of the namespace against what the overlay's pods ask for."""
    yield from check_room(
        reader, overlay.namespace, requests(overlay), "the overlay", " if none of it runs yet"
    )


def check_room(
    reader: Reader, namespace: str, asked: Mapping[str, Decimal], whose: str, when: str = ""
) -> Iterator[Finding]:
    """Each ResourceQuota of a namespace against what somebody asks for beside what is used."""
    for quota in reader.items(f"/api/v1/namespaces/{namespace}/resourcequotas"):
        name, status = quota["metadata"]["name"], quota.get("status") or {}
        for resource, hard in (status.get("hard") or {}).items():
            used = parse_quantity((status.get("used") or {}).get(resource, "0"))
            wants = asked.get(resource, Decimal(0))
            if wants and used + wants > parse_quantity(hard):
                yield broken(
                    "quota",
                    f"ResourceQuota {name}: {resource} allows {hard}, {used:f} is used, {whose}"
                    f" asks for {wants:f}{when}",
                    f"kubectl -n {namespace} edit resourcequota {name}",
                )


def check_volumes(reader: Reader, overlay: Overlay) -> Iterator[Finding]:
    """Claims need a storage class and keep their access modes; bundles are read on every node that
    runs a predictor."""
    claims = [item for item in overlay.objects if item["kind"] == "PersistentVolumeClaim"]
    classes = reader.items("/apis/storage.k8s.io/v1/storageclasses")
    default = "storageclass.kubernetes.io/is-default-class"
    has_default = any(
        (c["metadata"].get("annotations") or {}).get(default) == "true" for c in classes
    )
    nodes = len(reader.items("/api/v1/nodes"))
    for claim in claims:
        name = claim["metadata"]["name"]
        path = f"/api/v1/namespaces/{overlay.namespace}/persistentvolumeclaims/{name}"
        found = reader.find(path)
        modes = ((found or claim).get("spec") or {}).get("accessModes") or ()
        wanted = claim["spec"]["accessModes"]
        if found is None and not claim["spec"].get("storageClassName") and not has_default:
            yield broken(
                "volumes",
                f"claim {name} names no storage class and the cluster has no default one",
                f"kubectl annotate storageclass NAME {default}=true",
            )
        elif modes != wanted:
            yield broken(
                "volumes",
                f"claim {name} is there as {', '.join(modes)} and the overlay asks for"
                f" {', '.join(wanted)}, which may not change",
                f"copy what it holds, then kubectl -n {overlay.namespace} delete pvc {name}",
            )
        elif "bundles" in name and nodes > 1 and "ReadWriteMany" not in modes:
            yield limited(
                "volumes",
                f"claim {name} is {', '.join(modes)} on {nodes} nodes: predictors run only on the"
                " node that mounts it",
                "use ReadWriteMany where a storage class offers it, or s3:// for bundles",
            )
        else:
            yield fine("volumes", f"claim {name}: {', '.join(modes)}")


def requests(overlay: Overlay) -> dict[str, Decimal]:
    """What the overlay's pods ask for in sum."""
    return resources_of((pods.count, pods.spec) for pods in overlay.pods())


def resources_of(pods: Iterable[tuple[int, Object]]) -> dict[str, Decimal]:
    """What pods ask for in sum, under a ResourceQuota's names. pods: (count, pod spec)."""
    total: dict[str, Decimal] = {"pods": Decimal(0)}
    for count, spec in pods:
        total["pods"] += count
        for container in spec.get("containers") or ():
            resources: Object = container.get("resources") or {}
            for side in ("requests", "limits"):
                for resource, amount in (resources.get(side) or {}).items():
                    names = [f"{side}.{resource}"]
                    if side == "requests" and resource in ("cpu", "memory"):
                        names.append(resource)
                    if side == "limits" and "/" in resource:
                        names.append(f"requests.{resource}")  # an extended resource's request
                    for name in names:
                        total[name] = total.get(name, Decimal(0)) + count * parse_quantity(amount)
    return total
