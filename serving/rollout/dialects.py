"""RolloutState to and from the merge patch, in KServe's two dialects.

The patch holds what changes during a rollout and nothing else; every other field of the
InferenceService belongs in the manifest, where both arms share it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from serving.errors import ManifestError
from serving.rollout.documents import Document
from serving.rollout.state import LATEST, PREVIOUS, Arm, Canary, Dialect, RolloutState

API_VERSION = "serving.kserve.io/v1beta1"
KIND = "InferenceService"
WEBHOOK_DEFAULTS: Document = {"name": "", "resources": {}}
"""What KServe's webhook adds to a canary's model. `spec.canary` is an atomic list: without them it
differs from the live one for ever, and Argo CD never calls it synced."""


def to_patch(state: RolloutState) -> Document:
    """The merge patch, keys in the order in which rollout.yaml shows them."""
    spec = _standard(state) if state.dialect is Dialect.STANDARD else _knative(state)
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": state.service, "namespace": state.namespace},
        "spec": spec,
    }


def without_defaults(patch: Document) -> Document:
    """`patch` as a person may have written it, without what the webhook adds."""
    plain = copy.deepcopy(patch)
    for canary in plain["spec"].get("canary", []):
        for field in WEBHOOK_DEFAULTS:
            del canary["predictor"]["model"][field]
    return plain


def from_patch(patch: Mapping[str, Any], file: object) -> RolloutState:
    """The state a rollout.yaml holds.

    Without `canary` and without a predictor name it is in the Knative dialect. Raises
    ManifestError naming file, field and value.
    """
    root = _Node(patch, "", file)
    root.only("apiVersion", "kind", "metadata", "spec")
    for field, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if root.text(field) != wanted:
            raise root.wrong(field, f"must be {wanted} and not {root.fields[field]!r}")
    metadata, spec = root.child("metadata"), root.child("spec")
    metadata.only("name", "namespace")
    spec.only("predictor", "canary")
    predictor = spec.child("predictor")
    service, namespace = metadata.text("name"), metadata.text("namespace")
    standard = "canary" in spec.fields or "name" in predictor.fields
    try:
        if standard:
            return _read_standard(service, namespace, spec)
        return _read_knative(service, namespace, predictor)
    except ManifestError as error:
        if str(error).startswith(f"{file}: "):
            raise
        raise ManifestError(f"{file}: {error}") from None


def _standard(state: RolloutState) -> Document:
    stable = state.stable
    return {
        "predictor": {
            "name": stable.name,
            "minReplicas": stable.min_replicas,
            "model": {"storageUri": stable.storage_uri},
        },
        "canary": [
            {
                "trafficPercent": canary.weight,
                "predictor": {
                    "name": canary.arm.name,
                    "minReplicas": canary.arm.min_replicas,
                    "model": {
                        "modelFormat": {"name": state.model_format},
                        **copy.deepcopy(WEBHOOK_DEFAULTS),
                        "storageUri": canary.arm.storage_uri,
                    },
                },
            }
            for canary in state.canaries
        ],
    }


def _knative(state: RolloutState) -> Document:
    newest = state.canaries[0].arm if state.canaries else state.stable
    predictor: Document = {
        "minReplicas": newest.min_replicas,
        "model": {"storageUri": newest.storage_uri},
    }
    if state.canaries:
        predictor = {"canaryTrafficPercent": state.canaries[0].weight, **predictor}
    return {"predictor": predictor}


def _read_standard(service: str, namespace: str, spec: _Node) -> RolloutState:
    predictor = spec.child("predictor")
    if "canaryTrafficPercent" in predictor.fields:
        raise predictor.wrong(
            "canaryTrafficPercent",
            "is ignored in Standard mode, where a new storageUri would take all traffic; list the"
            " new version under spec.canary",
        )
    predictor.only("name", "minReplicas", "model")
    model = predictor.child("model")
    model.only("storageUri")
    stable = Arm(predictor.text("name"), model.text("storageUri"), predictor.integer("minReplicas"))
    canaries, formats = [], set()
    for entry in spec.children("canary"):
        entry.only("trafficPercent", "predictor")
        inner = entry.child("predictor")
        inner.only("name", "minReplicas", "model")
        model = inner.child("model")
        model.only("modelFormat", "storageUri", *WEBHOOK_DEFAULTS)
        for field, default in WEBHOOK_DEFAULTS.items():
            if model.fields.get(field, default) != default:
                raise model.wrong(field, f"must be {default!r}; both arms share the manifest's")
        form = model.child("modelFormat")
        form.only("name")
        formats.add(form.text("name"))
        arm = Arm(inner.text("name"), model.text("storageUri"), inner.integer("minReplicas"))
        canaries.append(Canary(arm, entry.integer("trafficPercent")))
    if len(formats) > 1:
        raise spec.wrong("canary", f"mixes model formats ({', '.join(sorted(formats))}); use one")
    state = RolloutState(service, namespace, stable, tuple(canaries))
    return replace(state, model_format=formats.pop()) if formats else state


def _read_knative(service: str, namespace: str, predictor: _Node) -> RolloutState:
    predictor.only("canaryTrafficPercent", "minReplicas", "model")
    model = predictor.child("model")
    model.only("storageUri")
    newest = Arm(LATEST, model.text("storageUri"), predictor.integer("minReplicas"))
    if "canaryTrafficPercent" not in predictor.fields:
        return RolloutState(service, namespace, newest, (), Dialect.KNATIVE)
    canary = Canary(newest, predictor.integer("canaryTrafficPercent"))
    return RolloutState(service, namespace, Arm(PREVIOUS, ""), (canary,), Dialect.KNATIVE)


@dataclass(frozen=True)
class _Node:
    """A mapping of the patch with its path, read field by field."""

    fields: Mapping[str, Any]
    path: str
    file: object

    def only(self, *known: str) -> None:
        for field in self.fields:
            if field not in known:
                raise self.wrong(
                    field,
                    f"is none of rollout.yaml's ({', '.join(known)}); keep what all arms share in"
                    " the manifest",
                )

    def wrong(self, field: str, what: str) -> ManifestError:
        path = f"{self.path}.{field}" if self.path else field
        return ManifestError(f"{self.file}: field '{path}' {what}")

    def get(self, field: str, kind: type, word: str) -> Any:
        if self.fields.get(field) is None:
            raise self.wrong(field, f"is missing; write it ({word})")
        value = self.fields[field]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.wrong(field, f"must be {word} and not {value!r}")
        return value

    def text(self, field: str) -> str:
        return str(self.get(field, str, "text"))

    def integer(self, field: str) -> int:
        return int(self.get(field, int, "a whole number"))

    def child(self, field: str) -> _Node:
        value = self.get(field, dict, "a mapping")
        return _Node(value, f"{self.path}.{field}" if self.path else field, self.file)

    def children(self, field: str) -> list[_Node]:
        if field not in self.fields:
            return []
        path = f"{self.path}.{field}"
        found = []
        for i, item in enumerate(self.get(field, list, "a list")):
            if not isinstance(item, dict):
                raise self.wrong(f"{field}[{i}]", f"must be a mapping and not {item!r}")
            found.append(_Node(item, f"{path}[{i}]", self.file))
        return found
