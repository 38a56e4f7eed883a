"""The SeldonDeployment: valid, careful, and started with parameters that the wrapper has."""

from __future__ import annotations

import inspect

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from serving.seldon.model import BundleModel
from tests.support.cluster_set import ClusterSet, Document, combined
from tests.support.dockerfile import FOLDER, entrypoint
from tests.support.kinds import KUBERNETES, validate


@pytest.fixture(scope="module")
def found(kubectl: str, tmp_path_factory: pytest.TempPathFactory) -> ClusterSet:
    assert kubectl
    return combined(tmp_path_factory.mktemp("seldon"), "overlays/cpu", ["seldon"])


@pytest.fixture
def predictor(found: ClusterSet) -> Document:
    (only,) = found.get("SeldonDeployment", "fraud-seldon")["spec"]["predictors"]
    return dict(only)


def test_it_is_valid_with_a_pod_that_is(found: ClusterSet, predictor: Document) -> None:
    validate(found.get("SeldonDeployment", "fraud-seldon"))
    (part,) = predictor["componentSpecs"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": part["spec"]}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_its_image_is_the_one_whose_entry_point_is_the_wrapper(predictor: Document) -> None:
    ((container,),) = ([*part["spec"]["containers"]] for part in predictor["componentSpecs"])
    assert container["image"].rpartition(":")[0] == "seatrial/seldon"
    words = entrypoint(FOLDER / "seldon.Dockerfile")
    assert words[1] == f"{BundleModel.__module__}.{BundleModel.__name__}"
    assert container["name"] == predictor["graph"]["name"]
    known = inspect.signature(BundleModel).parameters
    given = {one["name"]: one["value"] for one in predictor["graph"]["parameters"]}
    assert given.keys() <= known.keys()
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts[given["model_dir"]]["readOnly"] is True


def test_it_serves_the_inference_services_bundle(found: ClusterSet, predictor: Document) -> None:
    uri = found.get("InferenceService", "fraud")["spec"]["predictor"]["model"]["storageUri"]
    claim, _, path = uri.removeprefix("pvc://").partition("/")
    spec = predictor["componentSpecs"][0]["spec"]
    (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "bundles"]
    (volume,) = [v for v in spec["volumes"] if v["name"] == "bundles"]
    assert (volume["persistentVolumeClaim"]["claimName"], mount["subPath"]) == (claim, path)
    assert spec["serviceAccountName"] in found.names("ServiceAccount")


def test_it_may_as_little_as_our_other_pods(predictor: Document) -> None:
    spec = predictor["componentSpecs"][0]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        for kind in ("requests", "limits"):
            assert container["resources"][kind].keys() >= {"cpu", "memory"}
