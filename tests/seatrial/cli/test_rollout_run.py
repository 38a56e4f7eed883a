"""The commands of a run, end to end: a gate in the background, a real player, real load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.local.client import LocalPlayer
from serving.local.orphans import end_at_once
from serving.rollout import read_rollout
from serving.rollout.run.store import FOLDER
from tests.serving.local.deploy import Deploy
from tests.serving.local.load import Load
from tests.support.tiny import tiny_bundle

PLAN = {
    "format": "seatrial.rollout/1",
    "canary": "v2",
    "steps": [50, 100],
    "metrics": [{"kind": "errors", "max_rate": 0.01}],
    "look_seconds": 0.5,
    "min_seconds": 600.0,
}


def seatrial(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "seatrial", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)


@pytest.fixture
def deploy(tmp_path: Path) -> Iterator[Deploy]:
    found = Deploy(tmp_path / "deploy")
    found.bundle("v1")
    found.bundle("v2", tiny_bundle(tmp_path / "made", 0.01))
    player = LocalPlayer(tmp_path / "state", notify=lambda _: None)
    player.up(found.rollout("v1", {"v2": 0}))
    (found.path / "plan.yaml").write_text(yaml.safe_dump(PLAN))
    yield found
    player.down()
    end_at_once(player.state_dir)


def status(deploy: Deploy) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(seatrial("rollout", "status", deploy.path, "--json").stdout)
    return found


def test_a_killed_gates_canary_goes_dark_and_the_next_gate_ends_the_run(
    deploy: Deploy, tmp_path: Path
) -> None:
    words = ("--state", tmp_path / "state", "--detach", "--json", "--deadman-seconds", 3)
    started = seatrial("rollout", "start", deploy.path, *words)
    assert started.returncode == 0, started.stderr
    gate = json.loads(started.stdout)
    with Load(deploy.gateway) as load:
        until(lambda: read_rollout(deploy.path).weights["v2"] == 50)
        second = seatrial("rollout", "start", deploy.path, "--state", tmp_path / "state")
        assert second.returncode == 1
        assert f"process {gate['pid']}" in second.stderr
        assert "paused" in seatrial("rollout", "pause", deploy.path).stdout
        assert status(deploy)["paused"]
        os.kill(gate["pid"], signal.SIGKILL)
        until(lambda: read_rollout(deploy.path).weights["v2"] == 0)
        load.wait_for(50)
    assert load.failures == []
    assert status(deploy)["gate"] == ""
    ended = seatrial("rollout", "start", deploy.path, "--state", tmp_path / "state", "--json")
    assert ended.returncode == 1
    assert json.loads(ended.stdout)["phase"] == "rolled-back"
    log = (deploy.path / FOLDER / "deadman.log").read_text()
    assert "canary 'v2' is set to 0 %" in log


def test_abort_works_with_and_without_a_gate(deploy: Deploy, tmp_path: Path) -> None:
    words = ("--state", tmp_path / "state", "--detach", "--json", "--no-deadman")
    gate = json.loads(seatrial("rollout", "start", deploy.path, *words).stdout)
    with Load(deploy.gateway):
        until(lambda: read_rollout(deploy.path).weights["v2"] == 50)
        os.kill(gate["pid"], signal.SIGKILL)
        aborted = seatrial("rollout", "abort", deploy.path)
    assert aborted.returncode == 0, aborted.stderr
    assert "rolled-back" in aborted.stdout
    assert read_rollout(deploy.path).weights == {"v1": 100, "v2": 0}
