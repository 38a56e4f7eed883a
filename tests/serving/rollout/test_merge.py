from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.errors import ManifestError
from serving.rollout import merge, merge_patch, write_rollout
from serving.rollout.deploy_folder import create_deploy_folder
from serving.rollout.documents import parse_documents, read_documents
from serving.rollout.hydrate import render
from serving.rollout.merge import identity
from tests.serving.rollout.states import BASE, stable, story


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merges_as_the_rfc_says(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


def test_leaves_its_arguments_alone() -> None:
    target, patch = {"a": {"b": [1]}}, {"a": {"c": [2]}}
    merged = merge_patch(target, patch)
    merged["a"]["b"].append(3)
    merged["a"]["c"].append(3)
    assert (target, patch) == ({"a": {"b": [1]}}, {"a": {"c": [2]}})


def test_refuses_a_patch_of_an_object_that_is_not_there() -> None:
    patch = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "namespace": "y"}}
    with pytest.raises(ManifestError, match="has no Service 'x' in namespace 'y'"):
        merge(read_documents(BASE), patch)


@pytest.mark.parametrize("name", story())
def test_equals_kustomize_in_every_state(name: str, kubectl: str, tmp_path: Path) -> None:
    assert kubectl
    manifest = create_deploy_folder(tmp_path / "deploy", BASE, story()[name])
    rendered = parse_documents(render(tmp_path / "deploy"), tmp_path)
    assert sorted(rendered, key=identity) == sorted(manifest.documents, key=identity)


@pytest.mark.parametrize(
    "patch",
    [
        "  predictor:\n    minReplicas: null\n",
        "  predictor:\n    deploymentStrategy: null\n    labels: {a: b}\n",
        "  predictor:\n    containers: []\n",
        "  predictor:\n    containers:\n      - {name: other, image: 'x:1'}\n",
        "  predictor:\n    securityContext: {seccompProfile: {type: Localhost}}\n",
        "  canary: null\n",
        "  predictor: {}\n",
    ],
)
def test_equals_kustomize_for_patches_people_write(
    patch: str, kubectl: str, tmp_path: Path
) -> None:
    assert kubectl
    create_deploy_folder(tmp_path / "deploy", BASE, stable())
    file = tmp_path / "deploy" / "rollout.yaml"
    text = file.read_text()
    file.write_text(text[: text.index("spec:\n")] + "spec:\n" + patch)
    ours = merge(read_documents(BASE), read_documents(file)[0])
    rendered = parse_documents(render(file.parent), file)
    assert sorted(rendered, key=identity) == sorted(ours, key=identity)


def test_the_same_state_applied_twice_plays_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "deploy"
    first = create_deploy_folder(folder, BASE, story()["10 %"])
    assert not write_rollout(folder, story()["10 %"])
    again = merge(first.documents, read_documents(folder / "rollout.yaml")[0])
    assert again == first.documents
