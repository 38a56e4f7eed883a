from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.rollout import Dialect, merge, read_manifest, read_rollout, write_rollout
from serving.rollout.documents import parse_documents, read_documents
from serving.rollout.hydrate import HEADER, hydrate, main, render, sources
from serving.rollout.merge import identity
from tests.serving.rollout.states import knative_story, story

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
RENDERED = sorted((MANIFESTS / "rendered").glob("*.yaml"))
OVERLAYS = sorted(folder.name for folder in (MANIFESTS / "overlays").iterdir())


def containers(documents: tuple[dict[str, Any], ...]) -> Iterator[dict[str, Any]]:
    for document in documents:
        if document["kind"] == "ServingRuntime":
            yield from document["spec"]["containers"]
        if document["kind"] == "InferenceService":
            yield from document["spec"]["predictor"]["containers"]


def test_the_committed_renders_are_those_of_the_manifests(kubectl: str) -> None:
    assert kubectl
    assert hydrate(MANIFESTS, check=True) == []


def test_every_overlay_is_rendered_once() -> None:
    assert [file.stem for file in RENDERED] == sorted(["base", *OVERLAYS])


def test_the_root_is_the_cpu_overlay(kubectl: str) -> None:
    assert kubectl
    assert HEADER + render(ROOT) == (MANIFESTS / "rendered" / "cpu.yaml").read_text()


@pytest.mark.parametrize("file", RENDERED, ids=lambda file: str(file.stem))
def test_every_render_is_a_valid_manifest(file: Path) -> None:
    assert read_manifest(file).runtime["metadata"]["name"] == "seatrial-onnx"


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_overlays_rollout_is_stable_and_typed(name: str) -> None:
    state = read_rollout(MANIFESTS / "overlays" / name)
    assert state.canaries == ()
    assert state.dialect is (Dialect.KNATIVE if name == "knative" else Dialect.STANDARD)


@pytest.mark.parametrize("name", OVERLAYS)
def test_our_merge_of_every_rollout_state_equals_kustomize(
    name: str, kubectl: str, tmp_path: Path
) -> None:
    assert kubectl
    overlay = MANIFESTS / "overlays" / name
    settings = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    # The overlay without its rollout, hydrated: what our merge starts from.
    plain = tmp_path / "plain"
    (tmp_path / "base").symlink_to(MANIFESTS / "base")
    plain.mkdir()
    for file in overlay.iterdir():
        (plain / file.name).write_bytes(file.read_bytes())
    patches = [patch for patch in settings["patches"] if patch["path"] != "rollout.yaml"]
    settings["resources"] = ["../base"]
    (plain / "kustomization.yaml").write_text(yaml.safe_dump({**settings, "patches": patches}))
    documents = parse_documents(render(plain), plain)
    states = knative_story() if name == "knative" else story()
    for step, state in states.items():
        write_rollout(plain / "rollout.yaml", state)
        (plain / "kustomization.yaml").write_text(
            yaml.safe_dump({**settings, "patches": [*patches, {"path": "rollout.yaml"}]})
        )
        theirs = parse_documents(render(plain), plain)
        ours = merge(documents, read_documents(plain / "rollout.yaml")[0])
        assert sorted(ours, key=identity) == sorted(theirs, key=identity), step


def test_one_resource_per_file_named_by_kind() -> None:
    for file in (MANIFESTS / "base").glob("*.yaml"):
        documents = read_documents(file)
        assert [str(d["kind"]).lower() for d in documents] == [file.stem]


@pytest.mark.parametrize("file", RENDERED, ids=lambda file: str(file.stem))
def test_every_container_meets_pod_security_restricted_and_has_limits(file: Path) -> None:
    documents = read_documents(file)
    for container in containers(documents):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]) == {"requests", "limits"}
        assert re.fullmatch(r"[^:]+:\d+\.\d+\.\d+", container["image"])
    predictor = read_manifest(file).service["spec"]["predictor"]
    assert predictor["securityContext"]["runAsNonRoot"] is True
    assert predictor["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize("file", RENDERED, ids=lambda file: str(file.stem))
def test_every_reference_resolves_inside_the_render(file: Path) -> None:
    manifest = read_manifest(file)
    names = {(d["kind"], d["metadata"]["name"]) for d in manifest.documents}
    predictor = manifest.service["spec"]["predictor"]
    assert ("ServiceAccount", predictor["serviceAccountName"]) in names
    claim = re.fullmatch(r"pvc://([^/]+)/.+", predictor["model"]["storageUri"])
    assert claim is not None
    assert ("PersistentVolumeClaim", claim[1]) in names
    budget = next(d for d in manifest.documents if d["kind"] == "PodDisruptionBudget")
    assert budget["spec"]["selector"]["matchLabels"] == {
        "serving.kserve.io/inferenceservice": manifest.service["metadata"]["name"],
        "component": "predictor",
    }
    for spec, holders in (
        (manifest.runtime["spec"], manifest.runtime["spec"]["containers"]),
        (predictor, predictor["containers"]),
    ):
        volumes = {volume["name"] for volume in spec["volumes"]}
        for container in holders:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    namespaced = [d for d in manifest.documents if d["kind"] != "Namespace"]
    assert {d["metadata"]["namespace"] for d in namespaced} == {"seatrial"}
    assert ("Namespace", "seatrial") in names


def test_probes_ask_ports_that_the_processes_listen_on() -> None:
    manifest = read_manifest(MANIFESTS / "rendered" / "cpu.yaml")
    server = manifest.runtime["spec"]["containers"][0]
    predictor = manifest.service["spec"]["predictor"]
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    assert ports == {"http": 8080, "grpc": 8081}
    assert {f"--{name}_port={port}" for name, port in ports.items()} <= set(server["args"])
    assert server["readinessProbe"]["httpGet"] == {
        "path": "/v2/models/{{.Name}}/ready",
        "port": ports["http"],
    }
    sidecar = predictor["containers"][0]
    tee = sidecar["ports"][0]["containerPort"]
    assert f"--port={tee}" in sidecar["args"]
    assert f"--tee_url=http://localhost:{tee}" in server["args"]


def test_a_sick_sidecar_does_not_take_its_predictor_out_of_service() -> None:
    manifest = read_manifest(MANIFESTS / "rendered" / "cpu.yaml")
    sidecars = manifest.service["spec"]["predictor"]["containers"]
    assert [sidecar["name"] for sidecar in sidecars] == ["drift-detector"]
    assert not any("readinessProbe" in sidecar for sidecar in sidecars)


def test_hydrating_says_so_without_kubectl(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(["--manifests", str(MANIFESTS), "--check"]) == 2
    assert "kubectl is not on PATH; install kubectl 1.27 or newer" in capsys.readouterr().err


def test_hydrating_elsewhere_says_where_to_run_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--manifests", str(tmp_path)]) == 2
    assert "no base/ in it; run this from the repository root" in capsys.readouterr().err


def test_hydrating_names_what_is_stale_and_writes_it(
    kubectl: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kubectl
    copied = tmp_path / "manifests"
    for file in (MANIFESTS / "base").iterdir():
        target = copied / "base" / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    assert main(["--manifests", str(copied), "--check"]) == 1
    assert capsys.readouterr().out == f"{copied}/rendered/base.yaml: stale\n"
    assert not (copied / "rendered").exists()
    assert main(["--manifests", str(copied)]) == 0
    assert main(["--manifests", str(copied), "--check"]) == 0
    assert list(sources(copied)) == ["base"]
