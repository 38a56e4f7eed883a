"""The IR that is committed for clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.compile import compile_to, names
from pipelines.local import STAGES
from pipelines.parameters import read_ir
from pipelines.resources import compiled

PIPELINES = ("batch-score", "promote", "retrain", "train", "tune")
TRAINING = ("retrain", "train", "tune")
STORED = {"ingest", "validate", "evaluate", "bundle", "register", "deploy", "promote"}
"""Steps that read or write paths that parameters name; train keeps its checkpoints there."""


@pytest.fixture(params=PIPELINES)
def ir(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    return read_ir(request.param)


def executors(spec: Any) -> dict[str, Any]:
    found = spec["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): about["container"] for name, about in found.items()}


def settings(platform: Any) -> dict[str, Any]:
    found = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): about for name, about in found.items()}


def tasks(spec: Any) -> dict[str, Any]:
    """Of the pipeline, and of its conditions."""
    found = dict(spec["root"]["dag"]["tasks"])
    for component in spec["components"].values():
        found |= component.get("dag", {}).get("tasks", {})
    return {n: task for n, task in found.items() if not n.startswith(("condition", "for-loop"))}


@pytest.mark.parametrize("package", names())
def test_the_committed_ir_is_that_of_the_code(tmp_path: Path, package: str) -> None:
    fresh = compile_to(tmp_path, package)
    committed = compiled()[fresh.stem].read_text("utf-8")
    assert list(yaml.safe_load_all(fresh.read_text("utf-8"))) == list(
        yaml.safe_load_all(committed)
    ), "stale; run 'python -m pipelines.compile'"


def test_every_pipeline_is_compiled() -> None:
    assert tuple(compiled()) == PIPELINES


def test_every_parameter_is_described(ir: tuple[Any, Any]) -> None:
    parameters = ir[0]["root"]["inputDefinitions"]["parameters"]
    assert len(parameters) >= 5
    assert [name for name, given in parameters.items() if not given.get("description")] == []


def test_every_task_has_a_name_for_people(ir: tuple[Any, Any]) -> None:
    shown = [task["taskInfo"]["name"] for task in tasks(ir[0]).values()]
    assert all(name[0].isupper() and " " in name for name in shown)
    assert len(set(shown)) == len(shown)


def test_every_step_has_a_deadline_and_says_what_it_needs(ir: tuple[Any, Any]) -> None:
    told = settings(ir[1])
    for name, container in executors(ir[0]).items():
        assert int(told[name]["activeDeadlineSeconds"]) > 0
        assert {"resourceCpuRequest", "resourceMemoryRequest"} <= set(container["resources"])


def test_only_the_drift_step_runs_in_the_drift_image(ir: tuple[Any, Any]) -> None:
    for name, container in executors(ir[0]).items():
        image = "drift" if name == "fit-drift" else "pipelines"
        assert container["image"] == f"seatrial/{image}:0.1.0"


def test_train_runs_the_stages_that_local_runs_report() -> None:
    spec, _ = read_ir("train")
    assert {name.replace("-", "_") for name in tasks(spec)} == {*STAGES, "register"}


def test_train_takes_from_a_cache_only_what_the_rows_decide() -> None:
    spec, _ = read_ir("train")
    cached = {n for n, t in tasks(spec).items() if t["cachingOptions"].get("enableCache")}
    assert cached == {"validate", "train", "export", "evaluate", "fit-drift"}


@pytest.mark.parametrize("name", ["retrain", "promote", "batch-score"])
def test_what_acts_on_an_event_is_never_taken_from_a_cache(name: str) -> None:
    spec, _ = read_ir(name)
    assert [n for n, t in tasks(spec).items() if t["cachingOptions"].get("enableCache")] == []


def test_the_event_reaches_the_bundle() -> None:
    spec, _ = read_ir("retrain")
    given = tasks(spec)["bundle"]["inputs"]["parameters"]["run_id"]
    assert given == {"componentInputParameter": "event_id"}
    assert "defaultValue" not in spec["root"]["inputDefinitions"]["parameters"]["event_id"]


@pytest.mark.parametrize("name", TRAINING)
def test_the_training_step_alone_goes_to_the_gpu_pool(name: str) -> None:
    spec, platform = read_ir(name)
    told, containers = settings(platform), executors(spec)
    assert {n for n, c in containers.items() if "accelerator" in c["resources"]} == {"train"}
    assert {n for n, s in told.items() if s.get("nodeSelector")} == {"train"}
    assert {n for n, s in told.items() if s.get("tolerations")} == {"train"}


def test_trials_run_side_by_side_and_train_waits_for_all_of_them() -> None:
    spec, _ = read_ir("tune")
    loop = spec["root"]["dag"]["tasks"]["for-loop-1"]
    assert loop["iteratorPolicy"] == {"parallelismLimit": 6}
    assert loop["parameterIterator"]["items"] == {"inputParameter": "pipelinechannel--trials"}
    assert "for-loop-1" in tasks(spec)["train"]["dependentTasks"]


@pytest.mark.parametrize("name", TRAINING)
def test_the_gpu_pool_is_a_matter_of_parameters(name: str) -> None:
    spec, platform = read_ir(name)
    step = settings(platform)["train"]
    selector, (toleration,) = step["nodeSelector"], step["tolerations"]
    assert selector["nodeSelectorJson"] == {"componentInputParameter": "gpu_nodes"}
    assert toleration["tolerationJson"] == {"componentInputParameter": "gpu_tolerations"}
    accelerator = executors(spec)["train"]["resources"]["accelerator"]
    assert "pipelinechannel--gpu'" in accelerator["resourceType"]
    assert "pipelinechannel--gpu_count'" in accelerator["resourceCount"]
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert parameters["gpu_count"]["defaultValue"] == "1"
    assert parameters["gpu_tolerations"]["defaultValue"][0]["key"] == "nvidia.com/gpu"


@pytest.mark.parametrize("name", TRAINING)
def test_training_has_shared_memory_and_goes_on_after_a_spot_node_went(name: str) -> None:
    spec, platform = read_ir(name)
    (shm,) = settings(platform)["train"]["emptyDirMounts"]
    assert (shm["medium"], shm["mountPath"]) == ("Memory", "/dev/shm")  # noqa: S108
    task = tasks(spec)["train"]
    assert task["retryPolicy"]["maxRetryCount"] == 3
    assert task["retryPolicy"]["backoffDuration"] == "60s"
    assert task["inputs"]["parameters"]["checkpoints"] == {"componentInputParameter": "checkpoints"}


def test_steps_that_follow_paths_have_the_claim(ir: tuple[Any, Any]) -> None:
    for name, step in settings(ir[1]).items():
        stored = name in STORED | {"train"} or name.startswith("batch-score")
        assert bool(step.get("pvcMount")) == stored, name
