"""How KServe lays one specification over another: canary on stable, model on runtime."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Tree = Mapping[str, Any]

# Lists that the Kubernetes API merges by a key; every other list is replaced as a whole.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "ports": "containerPort",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
}
NAME_KEYS = ("name", "minReplicas", "maxReplicas", "canaryTrafficPercent")
MODEL_ONLY = {"modelFormat", "runtime", "storageUri", "storage", "protocolVersion", "name"}


def strategic_merge(base: Tree, patch: Tree) -> dict[str, Any]:
    """Kubernetes' strategic merge of `patch` over `base`; null removes a field."""
    merged = dict(base)
    for key, value in patch.items():
        below = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = strategic_merge(below, value)
        elif key in MERGE_KEYS and isinstance(value, list) and isinstance(below, list):
            merged[key] = _merge_lists(below, value, MERGE_KEYS[key])
        else:
            merged[key] = value
    return merged


def _merge_lists(base: list[Any], patch: list[Any], key: str) -> list[Any]:
    merged = list(base)
    at = {item.get(key): index for index, item in enumerate(base)}
    for item in patch:
        index = at.get(item.get(key))
        if index is None:
            merged.append(item)
        else:
            merged[index] = strategic_merge(merged[index], item)
    return merged


def canary_predictor(stable: Tree, canary: Tree) -> dict[str, Any]:
    """The canary's whole predictor: stable's with the canary's fields over it.

    Its replicas are its own, never inherited.
    """
    inherited = {k: v for k, v in stable.items() if k not in NAME_KEYS}
    return strategic_merge(inherited, canary)


def pod_containers(predictor: Tree, runtime: Tree, metadata: Tree) -> list[dict[str, Any]]:
    """The pod's containers: the runtime's, `model` over its kserve-container, then sidecars.

    Args of runtime and model are concatenated in this order, env is merged by name, a command is
    replaced; `{{.Name}}`, `{{.Namespace}}`, `{{.Labels.x}}` and `{{.Annotations.x}}` stand for
    the InferenceService's.
    """
    model = {k: v for k, v in predictor.get("model", {}).items() if k not in MODEL_ONLY}
    containers: list[dict[str, Any]] = []
    for container in runtime.get("containers", []):
        if container["name"] == "kserve-container":
            merged = strategic_merge(container, model)
            merged["args"] = [*(container.get("args") or []), *(model.get("args") or [])]
            containers.append(merged)
        else:
            containers.append(dict(container))
    filled: list[dict[str, Any]] = [_fill(container, metadata) for container in containers]
    return _merge_lists(filled, list(predictor.get("containers", [])), "name")


def _fill(value: Any, metadata: Tree) -> Any:
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda found: _placeholder(found, metadata), value)
    if isinstance(value, list):
        return [_fill(item, metadata) for item in value]
    if isinstance(value, Mapping):
        return {key: _fill(item, metadata) for key, item in value.items()}
    return value


_PLACEHOLDER = re.compile(r"\{\{\s*\.(Name|Namespace|Labels|Annotations)(?:\.([\w-]+))?\s*\}\}")


def _placeholder(found: re.Match[str], metadata: Tree) -> str:
    value = metadata.get(found[1].lower(), "")
    if found[2] is not None:
        value = value.get(found[2], "") if isinstance(value, Mapping) else ""
    return str(value)
