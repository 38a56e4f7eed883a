"""Is KServe there, new enough, in the right mode, and does it really split a canary's traffic?"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator

from seatrial.doctor.finding import Finding, Level, broken, fine, limited
from seatrial.doctor.reader import Object, Reader

NAMESPACE = "kserve"
SINCE = (0, 21)
"""The first release that weights an HTTPRoute by spec.canary (kserve#5912, #5984)."""
CONFIG = f"/api/v1/namespaces/{NAMESPACE}/configmaps/inferenceservice-config"
CONTROLLER = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/kserve-controller-manager"
INTERNAL = "svc.cluster.local"
"""Services of this domain get no route (RawHTTPRouteReconciler.Reconcile)."""
CRD = "inferenceservices.serving.kserve.io"
GROUP = "serving.kserve.io/v1beta1"
_INSTALL = "https://kserve.github.io/website/docs/install/overview"


def check_kserve(reader: Reader, service: Object) -> Iterator[Finding]:
    """What the InferenceService of the overlay needs of KServe."""
    if "InferenceService" not in reader.kinds(GROUP):
        yield broken("KServe", "it is not installed", f"install KServe 0.21 or newer: {_INSTALL}")
        return
    mode = (service["metadata"].get("annotations") or {}).get("serving.kserve.io/deploymentMode")
    yield from _same_mode(reader, service, mode)
    version = installed_version(reader)
    yield _version(version, mode)
    if mode == "Knative":
        yield from _knative(reader)
    else:
        yield from _standard(reader, version)


def _same_mode(reader: Reader, service: Object, wanted: str | None) -> Iterator[Finding]:
    """KServe refuses another mode for a service that is there (validateDeploymentMode)."""
    name, namespace = service["metadata"]["name"], service["metadata"].get("namespace", "default")
    found = reader.find(f"/apis/{GROUP}/namespaces/{namespace}/inferenceservices/{name}") or {}
    mode = (found.get("status") or {}).get("deploymentMode")
    if mode and wanted and mode != wanted:
        yield broken(
            "deployment mode",
            f"InferenceService {name} is there in {mode} mode, the overlay asks for {wanted}, and"
            " KServe refuses the change",
            f"kubectl -n {namespace} delete inferenceservice {name}  # nothing answers meanwhile",
        )


def installed_version(reader: Reader) -> tuple[int, ...] | None:
    """The controller image's version; None where it does not tell one."""
    found = reader.find(CONTROLLER) or {}
    pod = ((found.get("spec") or {}).get("template") or {}).get("spec") or {}
    for container in pod.get("containers") or ():
        match = re.search(r":v?(\d+)\.(\d+)(?:\.(\d+))?", container.get("image", ""))
        if match and container["name"] == "manager":
            return tuple(int(part) for part in match.groups() if part is not None)
    return None


def config(reader: Reader, key: str) -> Object:
    """One JSON entry of inferenceservice-config; {} where there is none."""
    text = ((reader.find(CONFIG) or {}).get("data") or {}).get(key) or "{}"
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _version(version: tuple[int, ...] | None, mode: str | None) -> Finding:
    if version is None:
        return Finding(
            Level.UNKNOWN,
            "KServe",
            f"its version cannot be read from deployment {NAMESPACE}/kserve-controller-manager",
            f"kubectl -n {NAMESPACE} get deployment kserve-controller-manager -o wide",
        )
    shown = ".".join(map(str, version))
    if mode != "Knative" and version[:2] < SINCE:
        return broken(
            "KServe",
            f"version {shown} does not split traffic by spec.canary; 0.21 is the first that does",
            f"upgrade KServe: {_INSTALL}",
        )
    return fine("KServe", f"version {shown}")


def _standard(reader: Reader, version: tuple[int, ...] | None) -> Iterator[Finding]:
    fields = reader.schema(CRD, "v1beta1", "spec", "canary", "trafficPercent")
    if fields is None:
        yield broken(
            "canary field",
            f"the CRD {CRD} has no spec.canary[].trafficPercent",
            "kubectl apply --server-side --force-conflicts -f KServe's CRDs of 0.21 or newer",
        )
    elif not fields:
        yield limited(
            "canary field",
            "the minimal CRD keeps any field, so a misspelt one is not refused",
            "install KServe's full CRDs, or run 'seatrial check' before every apply",
        )
    ingress = config(reader, "ingress")
    if not ingress:
        yield Finding(
            Level.UNKNOWN,
            "Gateway API switch",
            f"ConfigMap {NAMESPACE}/inferenceservice-config has no readable 'ingress'",
            f"kubectl -n {NAMESPACE} get configmap inferenceservice-config -o yaml",
        )
        return
    if ingress.get("enableGatewayApi") is not True:
        yield broken(
            "Gateway API switch",
            "enableGatewayApi is off: KServe would report 10 % and send none of it to the canary",
            f"kubectl -n {NAMESPACE} edit configmap inferenceservice-config"
            "  # ingress: enableGatewayApi: true",
        )
        return
    if ingress.get("disableIngressCreation") is True or ingress.get("ingressDomain") == INTERNAL:
        yield broken(
            "Gateway API switch",
            "KServe makes no routes here: disableIngressCreation is set, or ingressDomain is"
            f" {INTERNAL}",
            f"kubectl -n {NAMESPACE} edit configmap inferenceservice-config"
            "  # ingress: disableIngressCreation: false, ingressDomain: your domain",
        )
        return
    gateway = yield from _gateway(reader, str(ingress.get("kserveIngressGateway") or ""))
    if gateway and fields is not None and version is not None and version[:2] >= SINCE:
        yield fine(
            "canary split",
            "KServe weights HTTPRoutes here; in-cluster callers of the"
            " predictor's Service bypass the weights",
        )


def _gateway(reader: Reader, name: str) -> Generator[Finding, None, bool]:
    """Returns whether requests get through the Gateway."""
    if "HTTPRoute" not in reader.kinds("gateway.networking.k8s.io/v1"):
        yield broken(
            "Gateway API",
            "gateway.networking.k8s.io/v1 is not served",
            "kubectl apply -f the standard channel of the Gateway API CRDs",
        )
        return False
    namespace, _, gateway = name.rpartition("/")
    path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/gateways/{gateway}"
    found = reader.find(path) if namespace and gateway else None
    if found is None:
        if not reader.may(path):
            return False
        yield broken(
            "gateway",
            f"kserveIngressGateway is '{name}', and there is no such Gateway",
            "create that Gateway, or name yours in inferenceservice-config: ingress:"
            " kserveIngressGateway: NAMESPACE/NAME",
        )
        return False
    conditions = {c["type"]: c["status"] for c in (found.get("status") or {}).get("conditions", ())}
    if conditions.get("Programmed") != "True":
        yield broken(
            "gateway",
            f"Gateway {name} is not programmed, so no request reaches a predictor",
            f"kubectl -n {namespace} describe gateway {gateway}",
        )
        return False
    yield fine("gateway", f"Gateway {name} is programmed")
    return True


def _knative(reader: Reader) -> Iterator[Finding]:
    if "Service" not in reader.kinds("serving.knative.dev/v1"):
        yield broken(
            "Knative Serving",
            "serving.knative.dev/v1 is not served, and the overlay asks for Knative mode",
            "install Knative Serving, or use the overlay cpu",
        )
        return
    found = reader.find("/api/v1/namespaces/knative-serving/configmaps/config-features") or {}
    features = found.get("data") or {}
    wanted = ("securitycontext", "fieldref", "persistent-volume-claim")
    off = [f for f in wanted if features.get(f"kubernetes.podspec-{f}") != "enabled"]
    if off:
        patch = json.dumps({"data": {f"kubernetes.podspec-{f}": "enabled" for f in off}})
        yield broken(
            "Knative Serving",
            f"feature flags are off: {', '.join('kubernetes.podspec-' + f for f in off)}",
            f"kubectl -n knative-serving patch configmap config-features --type merge -p '{patch}'",
        )
    else:
        yield fine("Knative Serving", "is there, with the feature flags that the pods need")
