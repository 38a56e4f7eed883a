"""How the demo ends when something ends it: exit code 1, and nothing of ours left."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from seatrial import simulator
from seatrial.demo.facts import Facts
from seatrial.demo.run import report
from seatrial.simulator import SimulatorSettings
from tests.e2e.running import SMALL, Demo, all_gone, demo, listens

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300), pytest.mark.usefixtures("drift_python")]


def _kill_data(run: Demo) -> None:
    run.wait_for_stage("data")
    run.wait_until(lambda: _has(run, "spawn_main"), "the data process", 30)
    run.child("spawn_main").kill()


def _kill_pipeline(run: Demo) -> None:
    run.wait_for_stage("pipeline")
    run.wait_until(lambda: _has(run, "executor_main"), "a pipeline task", 60)
    run.child("executor_main").kill()


def _kill_serve(run: Demo) -> None:
    run.wait_for_stage("serve")
    run.wait_until(lambda: _has(run, "serving.local"), "the player", 30)
    run.child("serving.local").kill()


def _kill_sidecar(run: Demo) -> None:
    run.wait_for_stage("drift")
    run.child("serving.drift").kill()


def _kill_receiver(run: Demo) -> None:
    run.wait_for_stage("drift")
    run.wait_until(lambda: _has(run, "serving.retrain"), "the receiver", 30)
    run.child("serving.retrain").kill()


def _kill_replay(run: Demo) -> None:
    run.wait_for_stage("drift")
    run.wait_until(lambda: _has(run, "seatrial.replay"), "the replay", 30)
    run.child("seatrial.replay").kill()


@pytest.mark.parametrize(
    ("sabotage", "failed"),
    [
        (_kill_data, "data"),
        (_kill_pipeline, "pipeline"),
        (_kill_serve, "serve"),
        (_kill_sidecar, "drift"),
        (_kill_receiver, "drift"),
        (_kill_replay, "drift"),
    ],
    ids=["data", "pipeline", "serve", "sidecar", "receiver", "replay"],
)
def test_exits_1_when_a_stage_loses_its_process(
    tmp_path: Path, sabotage: Callable[[Demo], None], failed: str
) -> None:
    with demo(tmp_path, *SMALL) as run:
        sabotage(run)
        failed_in(run, failed)


def test_a_gateway_that_dies_beside_a_failing_canary_is_not_taken_for_that_failure(
    tmp_path: Path,
) -> None:
    """On a table of one's own: the story without drift."""
    settings = SimulatorSettings(customers=400, days=45)
    table, contract = simulator.write(tmp_path / "data", settings)
    with demo(tmp_path, "--data", str(table), "--contract", str(contract)) as run:
        run.wait_for_stage("failing canary")
        run.child("envoy").kill()
        failed_in(run, "failing canary")


def failed_in(run: Demo, stage: str) -> None:
    """It ends with 1 for this stage, and leaves nothing."""
    processes = run.processes()
    assert run.wait(240) == 1, run.output
    facts = run.facts()
    assert facts["ok"] is False
    assert [s["name"] for s in facts["stages"] if not s["ok"]] == [stage]
    assert all_gone(processes, 5)
    assert not listens(run.port)


def test_exits_1_when_the_report_cannot_be_written(tmp_path: Path) -> None:
    facts = Facts(tmp_path, "seatrial demo")
    facts.data["ok"] = True
    (tmp_path / "report.html").mkdir()
    assert report(facts, tmp_path, Console(quiet=True)) == 1
    assert facts.data["ok"] is False
    assert [(s["name"], s["ok"]) for s in facts.data["stages"]] == [("report", False)]


@pytest.mark.parametrize(
    ("stage", "number"),
    [("data", signal.SIGTERM), ("pipeline", signal.SIGINT), ("serve", signal.SIGTERM)],
)
def test_ends_every_child_within_5_s_of_a_signal(
    tmp_path: Path, stage: str, number: signal.Signals
) -> None:
    with demo(tmp_path, *SMALL) as run:
        run.wait_for_stage(stage)
        time.sleep(0.5)  # into the stage's work, at no particular point of it
        processes = [p for p in run.processes() if p.pid != run.process.pid]
        run.process.send_signal(number)
        assert all_gone(processes, 5)
        assert run.wait(10) == 130
        assert not listens(run.port)


def test_the_next_command_ends_what_a_killed_demo_left(tmp_path: Path) -> None:
    with demo(tmp_path, *SMALL) as run:
        run.wait_for_stage("drift")
        processes = run.processes()
        run.process.kill()
        run.process.wait()
        assert listens(run.port)
        shown = run.seatrial("status")
        assert shown.returncode == 1
        assert f"(pid {run.process.pid}) is gone" in shown.stderr
        assert all_gone(processes, 5)
        assert not listens(run.port)


def test_names_a_taken_port_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with demo(tmp_path, "--port", str(port)) as run:
            assert run.wait(30) == 1
            assert f"port {port}" in run.output
            assert not list(tmp_path.glob("runs/*"))


def _has(run: Demo, word: str) -> bool:
    try:
        run.child(word)
    except LookupError:
        return False
    return True
