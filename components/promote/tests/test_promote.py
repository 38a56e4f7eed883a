"""The gate as a step, on a site whose counters are a function of time."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from kfp import local

from components.promote import core
from components.promote.component import promote
from components.promote.tests.asking import asks, word
from serving.errors import ManifestError, UsageError
from serving.rollout.gate.observation import ArmCounts, Observation
from serving.rollout.run.lease import FileLease
from serving.rollout.run.parts import GateSettings, Parts
from serving.rollout.run.store import Runs
from serving.rollout.sources import RecordedSource
from tests.support.gates import Road, Traffic, plan


@pytest.fixture
def road(tmp_path: Path) -> Road:
    return Road(tmp_path / "deploy").lay()


def lead(road: Road, source: Any, **planned: Any) -> dict[str, Any]:
    folder = road.folder
    (folder / "plan.yaml").write_text(json.dumps(plan(**planned).to_json()))
    settings = GateSettings(folder=folder)
    parts = Parts(source, road, FileLease(settings.runs.lease_file), lambda _: "")
    return core.led(settings, plan(**planned), parts)


def test_a_good_canary_is_promoted(road: Road) -> None:
    ended = lead(road, Traffic(time.time()))
    assert ended["outcome"] == "promoted"
    assert road.read().stable.name == "v2"
    assert Runs(road.folder / ".rollout").get().id == ended["run"]


def test_a_bad_canary_is_rolled_back(road: Road) -> None:
    ended = lead(road, Traffic(time.time(), errors={"canary": 0.2}))
    assert ended["outcome"] == "rolled_back"
    assert road.read().weights == {"v1": 100, "v2": 0}


def test_a_canary_that_nobody_can_judge_in_time_is_held_dark_for_a_person(road: Road) -> None:
    ended = lead(road, Traffic(time.time(), rate=0.0), time_cap_seconds=0.5)
    assert ended["outcome"] == "held"
    assert road.read().weights == {"v1": 100, "v2": 0}
    again = lead(road, Traffic(time.time(), rate=0.0), time_cap_seconds=0.5)
    assert (again["outcome"], again["run"]) == ("held", ended["run"])


def recorded(file: Path, count: int = 12) -> Path:
    """Clean intervals, all of them in the past."""
    arm = ArmCounts(3000, 0, 0, (), ())
    with file.open("w") as out:
        for i in range(count):
            one = Observation(i, i + 1.0, arm, arm, (), True, 0, None)
            out.write(json.dumps(one.to_json()) + "\n")
    return file


def test_the_component_answers_in_one_word(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[GateSettings] = []

    def parts(settings: GateSettings, _: object) -> Parts:
        asked.append(settings)
        source = RecordedSource(settings.recorded or Path())
        return Parts(source, road, FileLease(settings.runs.lease_file), lambda _: "")

    monkeypatch.setattr(core, "build", parts)
    (road.folder / "plan.yaml").write_text(json.dumps({**plan().to_json(), "canary": "v9"}))
    word = promote.python_func(
        folder=str(road.folder),
        canary="v2",
        source="file",
        recorded=str(recorded(tmp_path / "counts.jsonl")),
    )
    assert word == "promoted"
    assert (asked[0].actuator, asked[0].on_cluster, asked[0].push) == ("git", True, False)


def test_a_canary_that_is_not_listed_and_a_setting_that_is_none_are_named(road: Road) -> None:
    with pytest.raises(ManifestError, match="the plan is for canary 'v7' and listed are v2"):
        lead(road, Traffic(time.time()), canary="v7")
    (road.folder / "plan.yaml").write_text(json.dumps(plan().to_json()))
    with pytest.raises(UsageError, match="actuator 'fax'"):
        core.run(folder=road.folder, actuator="fax")


@pytest.fixture
def runner(tmp_path: Path) -> None:
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))


@pytest.mark.usefixtures("runner")
def test_a_pipeline_can_ask_for_the_word_in_a_condition(tmp_path: Path) -> None:
    assert set(promote.component_spec.outputs) == set(word.component_spec.outputs) == {"Output"}
    for say, does in (("promoted", "yes"), ("rolled_back", "no")):
        asks(say=say, file=str(tmp_path / say))
        assert (tmp_path / say).read_text() == does
