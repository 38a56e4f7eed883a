"""The IR that is committed for clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.local import STAGES
from pipelines.train.pipeline import COMPILED, compile_to


@pytest.fixture(scope="module")
def ir() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPILED.read_text("utf-8"))
    return loaded


def test_the_committed_ir_is_that_of_the_code(tmp_path: Path) -> None:
    compile_to(tmp_path / "train.yaml")
    fresh = (tmp_path / "train.yaml").read_text("utf-8")
    assert fresh == COMPILED.read_text("utf-8"), "stale; run 'python -m pipelines.train'"


def test_every_parameter_is_described(ir: dict[str, Any]) -> None:
    parameters = ir["root"]["inputDefinitions"]["parameters"]
    assert len(parameters) >= 10
    assert [name for name, given in parameters.items() if not given.get("description")] == []


def test_runs_the_stages_that_local_runs_report(ir: dict[str, Any]) -> None:
    tasks = {name.replace("-", "_") for name in ir["root"]["dag"]["tasks"]}
    assert tasks == set(STAGES)


def test_only_the_drift_step_runs_in_the_drift_image(ir: dict[str, Any]) -> None:
    executors = ir["deploymentSpec"]["executors"]
    images = {name: spec["container"]["image"] for name, spec in executors.items()}
    assert images.pop("exec-fit-drift") == "seatrial/drift:0.1.0"
    assert set(images.values()) == {"seatrial/pipelines:0.1.0"}


def test_reading_the_table_and_writing_the_bundle_are_never_taken_from_a_cache(
    ir: dict[str, Any],
) -> None:
    tasks = ir["root"]["dag"]["tasks"]
    cached = {name for name, task in tasks.items() if task["cachingOptions"].get("enableCache")}
    assert cached == set(tasks) - {"validate", "bundle"}


def test_every_task_has_a_name_for_people(ir: dict[str, Any]) -> None:
    names = [task["taskInfo"]["name"] for task in ir["root"]["dag"]["tasks"].values()]
    assert all(name[0].isupper() and " " in name for name in names)
