from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from serving.local.pods import plan
from serving.rollout import Dialect, merge, read_manifest, read_rollout, write_rollout
from serving.rollout.documents import parse_documents, read_documents
from serving.rollout.hydrate import HEADER, hydrate, main, render, sources
from serving.rollout.merge import identity
from tests.serving.rollout.states import knative_story, story
from tests.support.cluster_set import MANIFESTS, RENDERED, ROOT, committed

OVERLAYS = sorted(folder.name for folder in (MANIFESTS / "overlays").iterdir())
# production has a second InferenceService, which takes part in no rollout.
ONE_SERVICE = [file for file in RENDERED if file.stem != "production"]


def test_the_committed_renders_are_those_of_the_manifests(kubectl: str) -> None:
    assert kubectl
    assert hydrate(MANIFESTS, check=True) == []


def test_every_overlay_is_rendered_once() -> None:
    assert [file.stem for file in RENDERED] == sorted(["base", *OVERLAYS])


@pytest.mark.parametrize("file", RENDERED, ids=lambda file: str(file.stem))
def test_no_object_is_rendered_twice(file: Path) -> None:
    found = [identity(document) for document in committed(file.stem).documents]
    assert len(found) == len(set(found))


def test_the_root_is_the_cpu_overlay(kubectl: str) -> None:
    assert kubectl
    assert HEADER + render(ROOT) == (MANIFESTS / "rendered" / "cpu.yaml").read_text()


@pytest.mark.parametrize("file", ONE_SERVICE, ids=lambda file: str(file.stem))
def test_a_render_with_one_service_is_a_manifest_for_player_and_gate(file: Path) -> None:
    runtime = "seatrial-onnx-gpu" if file.stem == "gpu" else "seatrial-onnx"
    assert read_manifest(file).runtime["metadata"]["name"] == runtime


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_overlays_rollout_is_stable_and_typed(name: str) -> None:
    state = read_rollout(MANIFESTS / "overlays" / name)
    assert state.canaries == ()
    assert state.dialect is (Dialect.KNATIVE if name == "knative" else Dialect.STANDARD)


@pytest.mark.parametrize("name", ["local", "knative"])
def test_our_merge_of_every_rollout_state_equals_kustomize(
    name: str, kubectl: str, tmp_path: Path
) -> None:
    assert kubectl
    copied = tmp_path / "manifests"
    shutil.copytree(MANIFESTS, copied, ignore=shutil.ignore_patterns("rendered"))
    overlay = copied / "overlays" / name
    settings = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    # The overlay without its rollout, hydrated: what our merge starts from.
    patches = [patch for patch in settings["patches"] if patch["path"] != "rollout.yaml"]
    plain = yaml.safe_dump({**settings, "patches": patches})
    (overlay / "kustomization.yaml").write_text(plain)
    documents = parse_documents(render(overlay), overlay)
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(settings))
    states = knative_story() if name == "knative" else story()
    for step, state in states.items():
        write_rollout(overlay / "rollout.yaml", state)
        theirs = parse_documents(render(overlay), overlay)
        ours = merge(documents, read_documents(overlay / "rollout.yaml")[0])
        assert sorted(ours, key=identity) == sorted(theirs, key=identity), step


def test_the_fallback_serves_what_stable_serves(kubectl: str, tmp_path: Path) -> None:
    assert kubectl
    copied = tmp_path / "manifests"
    shutil.copytree(MANIFESTS, copied, ignore=shutil.ignore_patterns("rendered"))
    overlay = copied / "overlays" / "production"
    promoted = list(story().values())[-1]
    write_rollout(overlay / "rollout.yaml", promoted)
    services = {
        document["metadata"]["name"]: document["spec"]["predictor"]["model"]["storageUri"]
        for document in parse_documents(render(overlay), overlay)
        if document["kind"] == "InferenceService"
    }
    assert services["fraud"] == promoted.stable.storage_uri
    assert services["fraud-cpu"] == services["fraud"]


@pytest.mark.parametrize("folder", ["base", "components"])
def test_one_resource_per_file_named_by_kind(folder: str) -> None:
    for kustomization in (MANIFESTS / folder).rglob("kustomization.yaml"):
        settings = yaml.safe_load(kustomization.read_text("utf-8"))
        for name in settings.get("resources", []):
            file = kustomization.parent / name
            if file.is_file():
                (document,) = read_documents(file)
                kind = str(document["kind"]).lower()
                assert file.stem == kind or file.stem.startswith(f"{kind}-"), file


def test_every_file_is_used() -> None:
    for kustomization in MANIFESTS.rglob("kustomization.yaml"):
        settings = yaml.safe_load(kustomization.read_text("utf-8"))
        used = set(settings.get("resources", []))
        used |= {patch["path"] for patch in settings.get("patches", [])}
        there = {file.name for file in kustomization.parent.glob("*.yaml")}
        assert there - {"kustomization.yaml"} <= used, kustomization


def test_a_sick_sidecar_does_not_take_its_predictor_out_of_service() -> None:
    for service in committed("production").of("InferenceService"):
        sidecars = service["spec"]["predictor"]["containers"]
        # The proxy before it is another matter: without that nobody reaches the predictor.
        probed = {sidecar["name"]: "readinessProbe" in sidecar for sidecar in sidecars}
        assert probed == {"drift-detector": False, "tls": True}


def test_the_player_lists_every_object_that_it_does_not_play() -> None:
    documents = committed("local").documents
    listed = plan(documents).not_played
    for document in documents:
        kind, name = document["kind"], document["metadata"]["name"]
        played = kind in ("Namespace", "InferenceService") or name == "seatrial-onnx"
        assert (f"{kind}/{name}" in listed) is not played, name


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
    for part in ("base", "components"):
        shutil.copytree(MANIFESTS / part, copied / part)
    assert main(["--manifests", str(copied), "--check"]) == 1
    assert capsys.readouterr().out == f"{copied}/rendered/base.yaml: stale\n"
    assert not (copied / "rendered").exists()
    assert main(["--manifests", str(copied)]) == 0
    assert main(["--manifests", str(copied), "--check"]) == 0
    assert list(sources(copied)) == ["base"]
