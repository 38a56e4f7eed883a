"""The images: how they are built, and that each can run what the manifests start in it.

Nothing is built here; a registry is needed for that.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.support.cluster_set import MANIFESTS, ROOT, ClusterSet, Pod
from tests.support.dockerfile import FILES, entrypoint, image, installed, stages
from tests.support.imports import brought, needed

WORKFLOW = ROOT / ".github" / "workflows" / "images.yaml"
ENVIRONMENTS = {
    "main": ROOT / ".venv",
    "drift": ROOT / ".venv-drift",
    "seldon": ROOT / ".venv-seldon",
}
# What the command line imports only when a command is called.
CALLED = {"rollout": "seatrial.cli.rollout"}
# ONNX Runtime's GPU build is another distribution of the same module.
TWINS = {"predictor-gpu": "predictor"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_an_image_is_pinned_multi_stage_and_not_root(file: Path) -> None:
    found = stages(file)
    assert [stage.name for stage in found] == ["build", ""]
    for stage in found:
        assert re.fullmatch(r"[a-z/]+:[\w.-]+@sha256:[0-9a-f]{64}", stage.base)
        assert ":latest" not in stage.base
        assert stage.all("ADD") == []
    last = found[-1]
    assert last.all("USER") == ["10001:10001"]
    assert last.instructions[-1][0] == "ENTRYPOINT"
    assert "useradd --uid 10001" in " ".join(last.all("RUN"))
    # Only the environment itself comes over: no sources, no pip caches, no lock.
    assert all(copied.startswith("--from=build ") for copied in last.all("COPY"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_an_image_has_the_lock_of_the_local_environment(file: Path) -> None:
    lock, extras = installed(file)
    assert lock in ENVIRONMENTS
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras) <= known["optional-dependencies"].keys()
    for text in stages(file)[0].all("RUN"):
        if "pip install" in text and "--no-deps" not in text:
            assert f"--constraint environments/{lock}.lock" in text


def test_gpu_images_have_a_base_with_cuda_and_others_do_not() -> None:
    with_cuda = {file.stem for file in FILES if stages(file)[-1].base.startswith("nvidia/cuda:")}
    assert with_cuda == {"predictor-gpu", "pipelines"}


def test_every_image_of_the_manifests_has_a_dockerfile_and_a_place_in_the_workflow() -> None:
    images = yaml.safe_load((MANIFESTS / "components/images/kustomization.yaml").read_text())
    named = {one["name"] for one in images["images"]}
    assert named == {image(file) for file in FILES}
    workflow = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    matrix = workflow["jobs"]["image"]["strategy"]["matrix"]["image"]
    assert set(matrix) == {file.stem for file in FILES}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {one["newTag"] for one in images["images"]} == {version}


def test_components_run_in_images_that_are_built() -> None:
    built = {image(file) for file in FILES}
    for file in (ROOT / "components").glob("*/component.py"):
        for name in re.findall(r'base_image="([^"]+)"', file.read_text("utf-8")):
            assert name.rpartition(":")[0] in built


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_an_image_brings_what_its_entry_point_imports(file: Path, drift_python: Path) -> None:
    assert drift_python.exists()
    words = entrypoint(file)
    if words[:2] == ["python", "-m"]:
        check(file, words[2])


def test_an_image_brings_what_the_manifests_start_in_it(
    combinations: Mapping[str, ClusterSet], drift_python: Path
) -> None:
    assert drift_python.exists()
    started = {
        (container["image"].partition(":")[0], *module_of(container["command"], container["args"]))
        for found in (
            combinations["all of it"],
            combinations["drift by a broker"],
            combinations["gpu fallback, shut"],
        )
        for pod in found.pods
        for container in pod.containers
    }
    assert len(started) >= 6
    for name, *modules in started:
        for module in modules:
            check(FILES[0].with_name(f"{name.removeprefix('seatrial/')}.Dockerfile"), module)


def module_of(command: list[str], args: list[str]) -> list[str]:
    if command == ["envoy"]:
        return command
    assert command[:2] == ["python", "-m"], command
    called = CALLED.get(args[0]) if args else None
    return [command[2], *([called] if called else [])]


def check(file: Path, module: str) -> None:
    """The module, or the package's __main__, with all it imports, is in the image's extras; of
    others' programs that the extras bring them."""
    lock, extras = installed(file)
    there = brought(tuple(TWINS.get(extra, extra) for extra in extras), ENVIRONMENTS[lock])
    if module == "envoy":
        assert module in there, f"{file.name} lacks {module}"
        return
    folder = ROOT.joinpath(*module.split("."))
    name = f"{module}.__main__" if folder.is_dir() else module
    assert ROOT.joinpath(*name.split(".")).with_suffix(".py").is_file(), name
    assert needed(name) - there == set(), f"{file.name} lacks what {name} imports"


def test_a_module_that_an_image_lacks_is_found() -> None:
    predictor = next(file for file in FILES if file.stem == "predictor")
    with pytest.raises(AssertionError, match=r"lacks what seatrial\.cli\.rollout imports"):
        check(predictor, "seatrial.cli.rollout")


def test_images_get_only_what_their_builds_copy() -> None:
    rules = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    allowed = {rule[1:].split("/")[0] for rule in rules if rule.startswith("!")}
    copied = {
        source.split("/")[0]
        for file in FILES
        for text in stages(file)[0].all("COPY")
        for source in text.split()[:-1]
    }
    assert rules[1] == "*"
    assert copied == allowed


def test_pods_of_the_manifests_run_as_the_user_of_the_images(
    combinations: Mapping[str, ClusterSet],
) -> None:
    pods: list[Pod] = combinations["all of it"].pods
    assert {pod.spec["securityContext"]["runAsUser"] for pod in pods} == {10001}
