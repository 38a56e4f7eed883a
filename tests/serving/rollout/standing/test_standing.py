from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from serving.errors import GateError, UsageError
from serving.rollout import without_canary
from serving.rollout.actuators.git import GitActuator
from serving.rollout.gate import Plan
from serving.rollout.run.lease import FileLease
from serving.rollout.run.parts import GateSettings, Parts
from serving.rollout.standing.gate import StandingGate
from serving.rollout.standing.metrics import Metrics
from serving.rollout.standing.repository import cloned
from serving.rollout.standing.settings import Settings, read_settings
from tests.e2e.running import free_port
from tests.support.gates import DARK, STABLE, Road, Traffic, plan


class Site:
    """A deploy folder with a standing gate; traffic is a function of time."""

    def __init__(self, folder: Path, errors: dict[str, float] | None = None) -> None:
        self.road = Road(folder / "deploy")
        self.traffic = Traffic(time.time() - 1, errors=errors or {})
        self.settings = Settings(
            actuator="kubernetes",
            folder=folder / "deploy",
            runs=folder / "runs",
            plan=folder / "plan.yaml",
        )
        self.settings.plan.write_text(json.dumps(plan(steps=[50]).to_json()))
        self.metrics = Metrics()
        self.told: list[str] = []

    def gate(self) -> StandingGate:
        return StandingGate(self.settings, self.metrics, tell=self.told.append, make=self._parts)

    def _parts(self, settings: GateSettings, _: Plan) -> Parts:
        lease = FileLease(settings.runs.lease_file)
        return Parts(self.traffic, self.road, lease, lambda _: "")

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


def test_without_a_canary_it_waits_and_writes_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.road.lay(STABLE)
    assert site.gate().turn() == ("waiting: the plan is for canary 'v2' and listed are: none")
    assert site.road.moves() == []
    assert not site.settings.runs.exists()


def test_a_listed_canary_is_led_to_promotion(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.road.lay(DARK)
    assert site.gate().turn().endswith(": done")
    assert site.road.read().stable.name == "v2"
    assert site.metric("seatrial_gate_runs_total", phase="done") == 1
    assert site.metric("seatrial_gate_leading") == 1
    assert any("at work" in line for line in site.told)


def test_a_canary_that_was_rolled_back_is_not_tried_again(tmp_path: Path) -> None:
    site = Site(tmp_path, errors={"canary": 0.5})
    site.road.lay(DARK)
    assert site.gate().turn().endswith(": rolled-back")
    moves = site.road.moves()
    assert "has judged canary 'v2' with this bundle" in site.gate().turn()
    assert site.road.moves() == moves


def test_another_bundle_under_the_same_name_is_another_try(tmp_path: Path) -> None:
    site = Site(tmp_path, errors={"canary": 0.5})
    site.road.lay(DARK)
    site.gate().turn()
    arm = dataclasses.replace(DARK.canaries[0].arm, storage_uri="pvc://b/other")
    canary = dataclasses.replace(DARK.canaries[0], arm=arm)
    site.road.write(dataclasses.replace(DARK, canaries=(canary,)), "", {})
    assert site.gate().turn().endswith(": rolled-back")
    assert site.metric("seatrial_gate_runs_total", phase="rolled-back") == 2


def test_the_folders_own_plan_comes_before_the_other_one(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.road.lay(without_canary(DARK, "v2"))
    (site.road.folder / "plan.yaml").write_text(json.dumps(plan(canary="v7").to_json()))
    assert "for canary 'v7'" in site.gate().turn()


def test_without_a_plan_or_a_rollout_it_waits(tmp_path: Path) -> None:
    site = Site(tmp_path)
    assert "has no rollout.yaml" in site.gate().turn()
    site.road.lay(STABLE)
    site.settings.plan.unlink()
    assert "neither" in site.gate().turn()


def test_without_a_repository_it_waits(tmp_path: Path) -> None:
    settings = Settings(clone=tmp_path / "clone", runs=tmp_path / "runs")
    gate = StandingGate(settings, Metrics(), tell=lambda _: None)
    assert gate.turn().startswith("waiting: no repository to commit to")


def git(folder: Path, *arguments: str) -> None:
    author = ("-c", "user.name=a", "-c", "user.email=a@localhost")
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True)


def origin(tmp_path: Path) -> str:
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    git(work, "init", "--quiet", "--initial-branch=main")
    (work / "file").write_text("one\n")
    git(work, "add", ".")
    git(work, "commit", "--quiet", "-m", "one")
    git(tmp_path, "clone", "--quiet", "--bare", str(work), "origin.git")
    return str(tmp_path / "origin.git")


def test_a_repository_is_cloned_once_with_its_upstream(tmp_path: Path) -> None:
    url, clone = origin(tmp_path), tmp_path / "state" / "clone"
    cloned(url, "main", clone)
    (clone / "file").write_text("mine\n")
    cloned(url, "main", clone)
    assert (clone / "file").read_text() == "mine\n"
    git(clone, "pull", "--quiet", "--rebase", "--autostash")


def test_a_canary_of_a_repository_is_led_by_commits_that_are_pushed(tmp_path: Path) -> None:
    work = tmp_path / "work"
    Road(work / "live").lay(DARK)
    (work / "live" / "plan.yaml").write_text(json.dumps(plan(steps=[50]).to_json()))
    url = origin(tmp_path)
    settings = Settings(
        repository=url, folder=Path("live"), clone=tmp_path / "clone", runs=tmp_path / "runs"
    )
    traffic = Traffic(time.time() - 1)

    def make(gate: GateSettings, _: Plan) -> Parts:
        # The plane of a cluster that follows the commits at once.
        actuator = GitActuator(gate.folder, Road(gate.folder), push=gate.push)
        return Parts(traffic, actuator, FileLease(gate.runs.lease_file), lambda _: "")

    gate = StandingGate(settings, Metrics(), tell=lambda _: None, make=make)
    assert gate.turn().endswith(": done")
    log = subprocess.run(
        ["git", "-C", url, "log", "--format=%s%n%b"], capture_output=True, text=True, check=True
    ).stdout
    assert "promote v2" in log
    assert "Evidence-SHA256: " in log
    assert gate.turn().startswith("waiting: the plan is for canary 'v2' and listed are: none")


def test_a_repository_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(GateError, match="git clone in .* failed"):
        cloned(str(tmp_path / "none.git"), "main", tmp_path / "clone")
    assert not (tmp_path / "clone").exists()


def test_a_clone_of_another_repository_is_refused(tmp_path: Path) -> None:
    cloned(origin(tmp_path), "main", tmp_path / "clone")
    with pytest.raises(GateError, match="and not of elsewhere"):
        cloned("elsewhere", "main", tmp_path / "clone")


def test_a_flag_wins_over_its_variable_and_an_empty_variable_is_none() -> None:
    environment = {"SEATRIAL_GATE_BRANCH": "live", "SEATRIAL_GATE_REPOSITORY": ""}
    assert read_settings([], environment).branch == "live"
    assert read_settings(["--branch", "other"], environment).branch == "other"
    assert read_settings([], environment).repository == ""


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"actuator": "hand"}, "actuator 'hand' is unknown; give git or kubernetes"),
        ({"source": "prometheus"}, "prometheus_url is missing"),
        ({"port": 0}, "port 0 is not a port"),
        ({"every_seconds": 0.0}, "is no pause"),
    ],
)
def test_a_wrong_setting_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings(**wrong)


def test_commits_are_pushed_and_take_effect_on_the_cluster() -> None:
    gate = Settings(folder=Path("live"), clone=Path("/clone")).gate()
    assert (gate.folder, gate.push, gate.traffic) == (Path("/clone/live"), True, "cluster")
    direct = Settings(actuator="kubernetes", folder=Path("/deploy")).gate()
    assert (direct.folder, direct.push, direct.traffic) == (Path("/deploy"), False, None)


def test_the_process_answers_a_probe_while_it_waits_and_ends_at_sigterm(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.rollout.standing", "--port", str(port)],
        env={**os.environ, "SEATRIAL_HOST": "127.0.0.1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        assert "waiting: no repository" in process.stderr.readline()
        url = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
        assert "seatrial_gate_leading 0.0" in text
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
