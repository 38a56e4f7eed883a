from __future__ import annotations

import copy
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kubernetes.client import ApiClient

from serving.errors import ManifestError
from serving.rollout import read_manifest, write_rollout
from serving.rollout.documents import read_documents
from serving.rollout.manifest import check_file
from serving.rollout.schema import check_object, is_neighbour
from tests.serving.rollout.states import BASE, stable, story

BASE_TEXT = BASE.read_text()


def edited(tmp_path: Path, old: str, new: str) -> Path:
    assert old in BASE_TEXT
    file = tmp_path / "manifest.yaml"
    file.write_text(BASE_TEXT.replace(old, new, 1))
    return file


def folder(tmp_path: Path, rollout: str | None = None) -> Path:
    (tmp_path / "manifest.yaml").write_text(BASE_TEXT)
    if rollout is None:
        write_rollout(tmp_path / "rollout.yaml", story()["10 %"])
    else:
        (tmp_path / "rollout.yaml").write_text(rollout)
    return tmp_path


def test_reads_the_service_and_the_runtime_it_names() -> None:
    manifest = read_manifest(BASE)
    assert manifest.service["metadata"]["name"] == "fraud"
    assert manifest.runtime["metadata"]["name"] == "seatrial-onnx"
    assert [d["kind"] for d in manifest.documents].count("InferenceService") == 1


def test_a_folder_is_its_manifest_with_the_rollout_merged_in(tmp_path: Path) -> None:
    spec = read_manifest(folder(tmp_path)).service["spec"]
    assert spec["canary"][0]["predictor"]["name"] == "v2"
    assert spec["predictor"]["minReplicas"] == 2
    assert spec["predictor"]["containers"][0]["name"] == "drift-detector"


@pytest.mark.parametrize("document", read_documents(BASE), ids=lambda d: str(d["kind"]))
def test_a_round_trip_through_the_typed_models_loses_nothing(document: dict[str, object]) -> None:
    back = ApiClient().sanitize_for_serialization(check_object(document, "base.yaml"))
    if document["kind"] == "InferenceService":
        # The typed model has this default, which KServe's webhook allows nobody to change.
        assert back["spec"]["predictor"]["model"].pop("name") == ""
    assert back == document


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    name: v1\n", "    nmae: v1\n", "unknown field 'spec.predictor.nmae'"),
        (
            "fieldPath: metadata",
            "fieldPaths: metadata",
            r"unknown field 'spec.predictor.model.env\[0\].valueFrom.fieldRef.fieldPaths'",
        ),
        (
            "sizeLimit: 64Mi",
            "size: 64Mi",
            r"unknown field 'spec[^']*volumes\[\d\].emptyDir.size'",
        ),
        ("maxSurge: 1", "surge: 1", "unknown field 'spec.predictor.deploymentStrategy.rolling"),
        ("maxUnavailable: 1\n", "maxUnavail: 1\n", "PodDisruptionBudget fraud: unknown field"),
        ("minReplicas: 1", "minReplicas: '1'", "must be an integer and not '1'"),
        ("minReplicas: 1", "minReplicas: true", "must be an integer and not True"),
        ("autoSelect: true", "autoSelect: 1", "must be true or false and not 1"),
        ("cpu: 500m", "cpu: [1]", "must be a quantity such as 500m or 1Gi and not"),
        ("kind: ServiceAccount", "kind: Gateway", r"kind Gateway \(v1\) is not known; accepted"),
        ("kind: ServiceAccount\n", "", "an object has no kind"),
        ("apiVersion: v1\nkind: Namespace", "kind: Namespace", "an object has no apiVersion"),
        ("kind: Namespace\nmetadata:", "kind: Namespace\nmeta:", "Namespace has no metadata.name"),
        ("kind: InferenceService", "kind: ClusterServingRuntime", "is not known"),
        ("runtime: seatrial-onnx", "runtime: other", "model.runtime 'other' is not in the file"),
        ("name: fraud\n  namespace", "name: fraud\n  name: fraud\n  namespace", "written twice"),
    ],
)
def test_refuses_a_manifest_naming_the_field(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    file = edited(tmp_path, old, new)
    with pytest.raises(ManifestError, match=message) as refused:
        read_manifest(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert "\n" not in str(refused.value)


def test_refuses_a_missing_required_field_by_its_path(tmp_path: Path) -> None:
    file = edited(tmp_path, '      modelFormat:\n        name: onnx\n        version: "1"\n', "")
    with pytest.raises(ManifestError, match=r"field 'spec\.predictor\.model\.modelFormat' is miss"):
        read_manifest(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("", "the file is empty"),
        ("  \n\n", "the file is empty"),
        ("---\n---\n", "holds no YAML document"),
        ("# only a comment\n", "holds no YAML document"),
        ("a: [1,\nb: {", "not YAML: line 2"),
        ("\ta: 1", "not YAML: line 1"),
        ("!!python/object:os.system {}", "not YAML: line 1"),
        ("1: a", "not YAML: line 1: key 1 is not text"),
        ("- a\n- b\n", "document 1 is list and not a Kubernetes object"),
        ("just text\n", "document 1 is str"),
        ("\x00", "not YAML"),
    ],
)
def test_refuses_what_is_no_manifest(text: str | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "manifest.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ManifestError, match=message) as refused:
        read_manifest(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert "\n" not in str(refused.value)


def test_refuses_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "manifest.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="not UTF-8 text"):
        read_manifest(file)


def test_refuses_two_inference_services(tmp_path: Path) -> None:
    service = BASE_TEXT[BASE_TEXT.index("---\napiVersion: serving.kserve.io/v1beta1") :]
    file = tmp_path / "manifest.yaml"
    file.write_text(BASE_TEXT + service.replace("name: fraud\n", "name: other\n", 1))
    with pytest.raises(ManifestError, match=r"2 are there \('fraud', 'other'\)"):
        read_manifest(file)
    file.write_text(BASE_TEXT + service)
    with pytest.raises(ManifestError, match="InferenceService 'fraud' is there twice"):
        read_manifest(file)


def test_refuses_a_manifest_without_an_inference_service(tmp_path: Path) -> None:
    file = tmp_path / "manifest.yaml"
    file.write_text(BASE_TEXT[: BASE_TEXT.index("---\napiVersion: serving.kserve.io/v1beta1")])
    with pytest.raises(ManifestError, match=r"0 are there \(none\)"):
        read_manifest(file)


@pytest.mark.parametrize("absent", ["manifest.yaml", "rollout.yaml"])
def test_refuses_a_folder_with_a_part_missing(absent: str, tmp_path: Path) -> None:
    (folder(tmp_path) / absent).unlink()
    with pytest.raises(ManifestError, match=f"no {absent} in this folder"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: v2", "nmae: v2", r"unknown field 'spec.canary\[0\].predictor.nmae'"),
        ("  name: fraud\n", "  name: other\n", "has no InferenceService 'other'"),
        ("  namespace: seatrial\n", "", "in namespace 'default'"),
        ("trafficPercent: 10", "trafficPercent: 101", "canary 'v2': trafficPercent is 101"),
        ("trafficPercent: 10", "trafficPercent: null", "canary 'v2': trafficPercent is missing"),
        ("storageUri: pvc://seatrial-bundles/fraud/v1", "runtime: null", "runtime is missing"),
    ],
)
def test_refuses_a_rollout_naming_its_own_file(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    folder(tmp_path)
    rollout = tmp_path / "rollout.yaml"
    text = rollout.read_text()
    assert old in text
    rollout.write_text(text.replace(old, new, 1))
    with pytest.raises(ManifestError, match=message) as refused:
        read_manifest(tmp_path)
    assert str(refused.value).startswith(f"{rollout}: ")


def test_names_the_manifest_for_a_fault_it_has_without_the_rollout(tmp_path: Path) -> None:
    folder(tmp_path)
    file = edited(tmp_path, "runtime: seatrial-onnx", "runtime: other")
    with pytest.raises(ManifestError, match="model.runtime 'other' is not in the file") as refused:
        read_manifest(tmp_path)
    assert str(refused.value).startswith(f"{file}: ")


DAMAGES: list[Any] = [None, "x", 7, -1, True, [], [None], {}, {"a": 1}, ["a"], [{"name": "a"}]]


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """The base with one field, anywhere, removed or given another value."""
    documents = copy.deepcopy(list(read_documents(BASE)))
    node: Any = documents
    while True:
        key = draw(st.sampled_from(range(len(node)) if isinstance(node, list) else sorted(node)))
        if node[key] and isinstance(node[key], dict | list) and draw(st.integers(0, 5)):
            node = node[key]
        elif draw(st.booleans()):
            del node[key]
            break
        else:
            node[key] = draw(st.sampled_from(DAMAGES))
            break
    return yaml.safe_dump_all(documents)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=damaged())
def test_any_damage_to_a_manifest_is_refused_in_one_sentence_or_harmless(
    text: str, tmp_path: Path
) -> None:
    file = tmp_path / "manifest.yaml"
    file.write_text(text)
    said = ""
    try:
        read_manifest(file)
    except ManifestError as error:
        said = str(error)
    assert "\n" not in said


def test_a_null_is_an_absent_field(tmp_path: Path) -> None:
    file = edited(tmp_path, "minReplicas: 1", "minReplicas: null")
    assert "minReplicas" not in read_manifest(file).service["spec"]["predictor"]


def test_a_neighbours_object_is_passed_on_to_its_own_api_server(tmp_path: Path) -> None:
    file = tmp_path / "render.yaml"
    trigger = "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata:\n  name: x\n"
    file.write_text(f"{BASE_TEXT}\n---\n{trigger}")
    assert [d["kind"] for d in check_file(file) if is_neighbour(d)] == ["Trigger"]


@pytest.mark.alone
def test_importing_the_package_leaves_kserve_alone_and_is_quick() -> None:
    code = "import sys, serving.rollout; sys.exit('kserve' in sys.modules)"
    took = []
    for _ in range(3):
        start = time.perf_counter()
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
        took.append(time.perf_counter() - start)
    assert min(took) < 0.3


def test_a_played_folder_is_the_base_when_nothing_is_rolling_out(tmp_path: Path) -> None:
    write_rollout(folder(tmp_path, "# state\n") / "rollout.yaml", stable())
    played = read_manifest(tmp_path).service
    assert played["spec"].pop("canary") == []
    assert played == read_manifest(BASE).service
