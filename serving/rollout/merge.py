"""rollout.yaml onto a manifest: JSON merge patch (RFC 7386), which is what kustomize does with it.

kustomize has no schema of KServe's kinds, so its strategic merge of an InferenceService falls
back to a merge patch in which lists are replaced whole.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from serving.errors import ManifestError
from serving.rollout.documents import Document


def merge_patch(target: Any, patch: Any) -> Any:
    """MergePatch(target, patch) of RFC 7386, section 2; neither argument is changed."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return copy.deepcopy(result)


def identity(document: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """(apiVersion, kind, namespace, name), by which a patch finds its object."""
    found = document.get("metadata")
    metadata = found if isinstance(found, Mapping) else {}
    return (
        str(document.get("apiVersion", "")),
        str(document.get("kind", "")),
        str(metadata.get("namespace", "default")),
        str(metadata.get("name", "")),
    )


def merge(documents: Sequence[Mapping[str, Any]], patch: Mapping[str, Any]) -> tuple[Document, ...]:
    """The documents with `patch` merged onto the object it names.

    Raises ManifestError when no object, or more than one, has the patch's apiVersion, kind,
    namespace and name.
    """
    wanted = identity(patch)
    matches = [i for i, document in enumerate(documents) if identity(document) == wanted]
    if len(matches) != 1:
        _, kind, namespace, name = wanted
        count = "no" if not matches else str(len(matches))
        raise ManifestError(
            f"the manifest has {count} {kind} '{name}' in namespace '{namespace}', which the"
            " rollout patches; make apiVersion, kind, metadata.name and metadata.namespace agree"
        )
    return tuple(
        merge_patch(document, patch) if i == matches[0] else copy.deepcopy(dict(document))
        for i, document in enumerate(documents)
    )
