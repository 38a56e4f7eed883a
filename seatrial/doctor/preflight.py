"""Before a run is submitted: has the cluster what the pipeline's steps ask for?

A pod that no node takes waits without a word in KFP's user interface.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seatrial.doctor.finding import Finding, Level, broken, fine, limited
from seatrial.doctor.nodes import GPU, check_gpus
from seatrial.doctor.objects import check_room, resources_of
from seatrial.doctor.reader import Object, Reader
from serving.errors import UsageError
from serving.rollout.actuators.cluster import Cluster

_INNER = "pipelinechannel--"
"""What KFP puts before a parameter's name where it hands it on."""
_PLACE = re.compile(r"\{\{\$\.inputs\.parameters\['(.+?)'\]\}\}")


@dataclass(frozen=True)
class Step:
    """What one step asks of the cluster."""

    name: str
    pod: Object
    claims: Sequence[str]
    secrets: Sequence[tuple[str, bool]]
    """Name, and whether the step runs without it."""


def steps(spec: Object, platform: Object, values: Mapping[str, Any]) -> list[Step]:
    """The steps of a compiled pipeline with its parameters filled in. Raises UsageError."""
    executors = spec["deploymentSpec"]["executors"]
    told = (platform.get("platforms") or {}).get("kubernetes") or {}
    settings = (told.get("deploymentSpec") or {}).get("executors") or {}
    return [_step(name, executors[name], settings.get(name) or {}, values) for name in executors]


def preflight(
    cluster: Cluster,
    spec: Object,
    platform: Object,
    values: Mapping[str, Any],
    namespace: str,
    *,
    service_account: str = "",
) -> list[Finding]:
    """Reads the cluster, writes nothing. Raises GateError when it does not answer, UsageError for
    a parameter that Kubernetes could not read."""
    reader, wanted = Reader(cluster), steps(spec, platform, values)
    findings = list(_findings(reader, wanted, namespace, service_account))
    findings += [
        Finding(
            Level.UNKNOWN,
            "permissions",
            f"this account may not read {path}, so what it would tell is not known",
            "run preflight as an administrator of the namespace",
        )
        for path in reader.forbidden
    ]
    return findings


def _findings(
    reader: Reader, wanted: Sequence[Step], namespace: str, account: str
) -> Iterator[Finding]:
    yield from check_gpus(
        reader,
        [(step.name, step.pod) for step in wanted],
        copies=1,
        settings="the parameters gpu_nodes, gpu_tolerations and gpu_count",
        without="set gpu_count=0, gpu_nodes={} and gpu_tolerations=[]",
    )
    objects = f"/api/v1/namespaces/{namespace}"
    for claim in sorted({claim for step in wanted for claim in step.claims}):
        yield _claim(reader, f"{objects}/persistentvolumeclaims/{claim}", claim, namespace)
    for secret, optional in sorted({secret for step in wanted for secret in step.secrets}):
        path = f"{objects}/secrets/{secret}"
        if reader.find(path) is not None:
            yield fine("secrets", f"secret {secret} is there")
        elif reader.may(path):
            says = f"namespace {namespace} has no secret {secret}"
            mend = f"kubectl -n {namespace} create secret generic {secret} --from-env-file=FILE"
            made = limited if optional else broken
            yield made("secrets", says + (": s3:// needs it" if optional else ""), mend)
    if account:
        path = f"{objects}/serviceaccounts/{account}"
        if reader.find(path) is not None:
            yield fine("service account", f"{account} is there")
        elif reader.may(path):
            yield broken(
                "service account",
                f"namespace {namespace} has no service account {account}",
                f"kubectl -n {namespace} create serviceaccount {account}",
            )
    stopped = False
    for step in wanted:
        for finding in check_room(reader, namespace, resources_of([(1, step.pod)]), step.name):
            stopped = True
            yield finding
    if not stopped and reader.may(f"{objects}/resourcequotas"):
        yield fine("quota", f"namespace {namespace} leaves room for each step")


def _claim(reader: Reader, path: str, name: str, namespace: str) -> Finding:
    found = reader.find(path)
    if found is None and not reader.may(path):
        return Finding(Level.UNKNOWN, "volumes", f"claim {name} may not be read", "")
    if found is None:
        return broken(
            "volumes",
            f"namespace {namespace} has no claim {name}: the steps' pods would wait for it",
            "create it, or name another with --param claim=NAME",
        )
    phase = (found.get("status") or {}).get("phase", "")
    if phase == "Lost":
        return broken("volumes", f"claim {name} has lost its volume", "make the claim anew")
    return fine("volumes", f"claim {name} is there")


def _step(name: str, executor: Object, settings: Object, values: Mapping[str, Any]) -> Step:
    resources = executor["container"].get("resources") or {}
    requests = {
        kind: _filled(resources[key], values)
        for kind, key in (("cpu", "resourceCpuRequest"), ("memory", "resourceMemoryRequest"))
        if key in resources
    }
    limits: dict[str, str] = {}
    accelerator = resources.get("accelerator")
    if accelerator:
        kind = _filled(accelerator["resourceType"], values)
        limits[kind] = _filled(accelerator["resourceCount"], values)
        if kind == GPU and not limits[kind].isdigit():
            raise UsageError(f"gpu_count '{limits[kind]}' is no count; give 0 or more")
    selector = (settings.get("nodeSelector") or {}).get("nodeSelectorJson")
    tolerations: list[Any] = []
    for one in settings.get("tolerations") or ():
        value = _value(one.get("tolerationJson"), values)
        tolerations += value if isinstance(value, list) else [value]
    return Step(
        name.removeprefix("exec-"),
        {
            "nodeSelector": _value(selector, values) or {},
            "tolerations": tolerations,
            "containers": [{"resources": {"requests": requests, "limits": limits}}],
        },
        [str(_value(one["pvcNameParameter"], values)) for one in settings.get("pvcMount") or ()],
        [
            (str(_value(one["secretNameParameter"], values)), bool(one.get("optional")))
            for one in settings.get("secretAsEnv") or ()
        ],
    )


def _filled(text: str, values: Mapping[str, Any]) -> str:
    return _PLACE.sub(lambda found: str(values[found[1].removeprefix(_INNER)]), text)


def _value(reference: Object | None, values: Mapping[str, Any]) -> Any:
    if reference is None:
        return None
    return values[reference["componentInputParameter"].removeprefix(_INNER)]
