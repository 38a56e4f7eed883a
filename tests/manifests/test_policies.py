"""What every pod must be like, whoever makes it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.support.cluster_set import MANIFESTS, ClusterSet, Document, Pod, committed

IMAGES = MANIFESTS / "components" / "images" / "kustomization.yaml"


def findings(pod: Pod) -> Iterator[str]:
    """What breaks a policy, one line each."""
    security = pod.spec.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or security.get("runAsUser", 0) < 10000:
        yield f"{pod.owner}: may run as root, or as a user of the node"
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield f"{pod.owner}: no seccomp profile"
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(field):
            yield f"{pod.owner}: {field}"
    if "serviceAccountName" not in pod.spec:
        yield f"{pod.owner}: runs as the default service account"
    if "automountServiceAccountToken" not in pod.spec:
        yield f"{pod.owner}: does not say whether it wants a token"
    if pod.spec.get("enableServiceLinks") is not False:
        yield f"{pod.owner}: the namespace's Services may set its variables"
    for container in pod.containers:
        yield from _container(pod, container)


def _container(pod: Pod, container: Document) -> Iterator[str]:
    where = f"{pod.owner} {container['name']}"
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False:
        yield f"{where}: may gain privileges"
    if security.get("readOnlyRootFilesystem") is not True:
        yield f"{where}: writes to its root file system"
    if security.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{where}: keeps capabilities"
    if not re.fullmatch(r"seatrial/[a-z-]+:\d+\.\d+\.\d+", container["image"]):
        yield f"{where}: image {container['image']} has no version"
    for kind in ("requests", "limits"):
        if not {"cpu", "memory"} <= set(container.get("resources", {}).get(kind, {})):
            yield f"{where}: no {kind}"
    long_lived = not pod.owner.startswith(("Job/", "CronJob/"))
    # Knative's pods have a sidecar's only behind a flag.
    sidecar = container["name"] == "drift-detector"
    if long_lived and "livenessProbe" not in container and not (pod.knative and sidecar):
        yield f"{where}: no liveness probe"
    # The sidecar has none on purpose: it must not take its predictor out of service.
    if long_lived and "readinessProbe" not in container and not sidecar:
        yield f"{where}: no readiness probe"
    if not container.get("command"):
        yield f"{where}: no command"


def test_every_pod_keeps_to_the_policies(cluster_set: ClusterSet) -> None:
    assert cluster_set.pods
    assert [line for pod in cluster_set.pods for line in findings(pod)] == []


def edited(edit: Callable[[Document], Any]) -> Pod:
    pod = next(p for p in committed("cpu").pods if p.owner == "Deployment/seatrial-gate")
    spec = copy.deepcopy(pod.spec)
    edit(spec)
    return Pod(pod.owner, pod.labels, spec)


KNOWN_BAD: dict[str, Callable[[Document], Any]] = {
    "may run as root": lambda s: s["securityContext"].pop("runAsNonRoot"),
    "no seccomp profile": lambda s: s["securityContext"].pop("seccompProfile"),
    "hostNetwork": lambda s: s.update(hostNetwork=True),
    "default service account": lambda s: s.pop("serviceAccountName"),
    "wants a token": lambda s: s.pop("automountServiceAccountToken"),
    "Services may set its variables": lambda s: s.pop("enableServiceLinks"),
    "may gain privileges": lambda s: s["containers"][0]["securityContext"].pop(
        "allowPrivilegeEscalation"
    ),
    "root file system": lambda s: s["containers"][0]["securityContext"].update(
        readOnlyRootFilesystem=False
    ),
    "keeps capabilities": lambda s: s["containers"][0]["securityContext"].pop("capabilities"),
    "gate:latest has no version": lambda s: s["containers"][0].update(image="seatrial/gate:latest"),
    "gate has no version": lambda s: s["containers"][0].update(image="seatrial/gate"),
    "no limits": lambda s: s["containers"][0]["resources"].pop("limits"),
    "no requests": lambda s: s["containers"][0]["resources"]["requests"].pop("cpu"),
    "no liveness probe": lambda s: s["containers"][0].pop("livenessProbe"),
    "no readiness probe": lambda s: s["containers"][0].pop("readinessProbe"),
}


@pytest.mark.parametrize("message", KNOWN_BAD)
def test_a_known_bad_pod_is_found(message: str) -> None:
    found = list(findings(edited(KNOWN_BAD[message])))
    assert len(found) == 1
    assert message in found[0]


def test_the_namespace_enforces_pod_security_restricted(cluster_set: ClusterSet) -> None:
    (namespace,) = cluster_set.of("Namespace")
    labels = namespace["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_what_kserve_injects_meets_pod_security_restricted() -> None:
    container = committed("cpu").get("ClusterStorageContainer", "seatrial")["spec"]["container"]
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["runAsNonRoot"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    # With an image of ours it would lag behind the cluster's KServe.
    assert "image" not in container


def test_image_tags_are_written_in_one_place() -> None:
    images = {i["name"] for i in yaml.safe_load(IMAGES.read_text("utf-8"))["images"]}
    named = set()
    for file in MANIFESTS.rglob("*.yaml"):
        relative = file.relative_to(MANIFESTS)
        # Compiled pipelines carry the images of their components.
        if relative.parts[0] == "rendered" or relative.parts[:2] == ("components", "pipelines"):
            continue
        for image in re.findall(r"^\s*image: (\S+)", file.read_text("utf-8"), re.M):
            assert ":" not in image, file
            named.add(image)
    assert named == images


def test_the_pod_outlives_its_drain() -> None:
    for service in committed("production").of("InferenceService"):
        predictor = service["spec"]["predictor"]
        runtime = committed("production").get("ServingRuntime", predictor["model"]["runtime"])
        server = runtime["spec"]["containers"][0]
        pause = server["lifecycle"]["preStop"]["sleep"]["seconds"]
        # serving.predictor ends within 5 s of SIGTERM.
        assert predictor["terminationGracePeriodSeconds"] > pause + 5


def test_no_two_runtimes_of_a_format_have_one_priority() -> None:
    runtimes = committed("cpu").of("ServingRuntime")
    priorities = [r["spec"]["supportedModelFormats"][0]["priority"] for r in runtimes]
    assert sorted(priorities) == [3, 4]


def test_the_template_names_no_version() -> None:
    """A promotion moves the name of stable; a template that had it would restart pods."""
    for file in ("cpu", "gpu", "production"):
        predictor = committed(file).get("InferenceService", "fraud")["spec"]["predictor"]
        moved = {"name", "minReplicas"}
        rest = {key: value for key, value in predictor.items() if key not in moved}
        rest["model"] = {k: v for k, v in rest["model"].items() if k != "storageUri"}
        assert not re.search(rf"\b{predictor['name']}\b", yaml.safe_dump(rest))
