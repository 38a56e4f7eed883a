"""`seatrial rollout`: what people and programs are told, and what they can ask for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from seatrial.cli import cli
from serving.errors import DataError, GateError, UsageError
from serving.rollout import read_rollout, with_weight, write_rollout
from serving.rollout.gate import Phase
from serving.rollout.run.store import FOLDER, Runs
from tests.serving.rollout.run.test_runner import Site
from tests.support.gates import plan

Invoke = Callable[..., Result]


class Folder(Site):
    """A deploy folder with its run inside, as `start` leaves it."""

    def __init__(self, folder: Path, **changed: Any) -> None:
        super().__init__(folder, plan(**changed))
        self.path = self.road.folder
        self.lease.release()
        self.runs.path.rename(self.path / FOLDER)
        self.runs = Runs(self.path / FOLDER)
        self.run = self.runs.get()
        (self.path / "plan.yaml").write_text(json.dumps(plan(**changed).to_json()))
        self.start()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def invoke(folder: Folder) -> Invoke:
    def run(command: str, *arguments: str) -> Result:
        words = ["rollout", command, str(folder.path), *arguments]
        return CliRunner().invoke(cli, words, catch_exceptions=True)

    return run


def failure(result: Result) -> Exception:
    assert isinstance(result.exception, Exception)
    return result.exception


def test_status_says_where_a_run_stands_and_why(folder: Folder, invoke: Invoke) -> None:
    folder.until(Phase.STEP)
    folder.look()
    found = json.loads(invoke("status", "--json").output)
    assert (found["phase"], found["share"], found["weight"]) == ("step", 10, 10)
    assert found["canary"]["bundle"] == "digest of v2"
    assert found["reason"] == folder.reason
    assert "process" in found["gate"]
    assert found["evidence"][0]["kind"] == "errors"
    shown = invoke("status").output
    assert "canary 10 % of 10 %" in shown
    assert "errors" in shown


def test_status_tells_when_the_promotion_may_be_expected(tmp_path: Path, invoke: Invoke) -> None:
    folder = Folder(tmp_path / "slow", min_seconds=100.0)
    folder.until(Phase.STEP)
    for _ in range(3):
        folder.look(10)
    result = CliRunner().invoke(cli, ["rollout", "status", str(folder.path), "--json"])
    left = json.loads(result.output)["seconds_left"]
    assert 200 < left < 300


def test_status_says_when_nobody_leads(folder: Folder, invoke: Invoke) -> None:
    folder.until(Phase.STEP)
    folder.lease.release()
    assert "NO GATE AT WORK" in invoke("status").output
    assert json.loads(invoke("status", "--json").output)["gate"] == ""


def test_watch_without_a_terminal_prints_once(folder: Folder, invoke: Invoke) -> None:
    folder.until(Phase.STEP)
    assert "AGAINST IT" in invoke("watch").output


def test_a_request_waits_for_a_gate_where_none_is_at_work(folder: Folder, invoke: Invoke) -> None:
    folder.until(Phase.STEP)
    folder.lease.release()
    result = invoke("pause")
    assert result.exit_code == 0
    assert "no gate is at work; 'pause' waits for one" in result.stderr
    folder.start()
    folder.look()
    assert folder.state.orders.paused


def test_a_request_that_the_gate_would_refuse_is_refused_at_once(
    folder: Folder, invoke: Invoke
) -> None:
    folder.until(Phase.STEP)
    assert isinstance(failure(invoke("approve", "50")), DataError)
    assert folder.run.asked() == []


def test_nothing_can_be_asked_of_a_run_that_has_ended(folder: Folder, invoke: Invoke) -> None:
    folder.until(Phase.DONE)
    assert "is done; start another run" in str(failure(invoke("abort")))


def test_edits_by_hand_are_refused_while_a_gate_leads(folder: Folder, invoke: Invoke) -> None:
    folder.until(Phase.STEP)
    error = failure(invoke("weight", "v2", "30"))
    assert isinstance(error, UsageError)
    assert "leads run" in str(error)
    folder.run.ask("pause", "anna")
    folder.look()
    assert invoke("weight", "v2", "30").exit_code == 0


def test_without_a_gate_a_canary_is_promoted_by_hand(folder: Folder, invoke: Invoke) -> None:
    folder.lease.release()
    write_rollout(folder.path, with_weight(read_rollout(folder.path), "v2", 50))
    assert invoke("promote", "v2").exit_code == 0
    assert read_rollout(folder.path).stable.name == "v2"


def test_a_canary_smaller_than_stable_is_promoted_once_it_is_as_large(
    folder: Folder, invoke: Invoke
) -> None:
    folder.lease.release()
    write_rollout(folder.path, with_weight(read_rollout(folder.path), "v2", 50))
    assert invoke("replicas", "v1", "2").exit_code == 0
    assert "'seatrial rollout replicas'" in str(failure(invoke("promote", "v2")))
    assert invoke("replicas", "v2", "2").exit_code == 0
    assert invoke("promote", "v2").exit_code == 0
    promoted = read_rollout(folder.path)
    assert [(arm.name, arm.min_replicas) for arm in promoted.arms] == [("v2", 4), ("v1", 2)]


def test_history_lists_every_run(folder: Folder, invoke: Invoke) -> None:
    folder.until(Phase.DONE)
    found = json.loads(invoke("history", "--json").output)
    assert [(row["run"], row["phase"]) for row in found] == [(folder.run.id, "done")]
    assert folder.run.id in invoke("history").output


def test_replay_decides_alike(folder: Folder, invoke: Invoke) -> None:
    folder.until(Phase.DONE)
    result = invoke("replay")
    assert result.exit_code == 0
    assert "0 differ; ends done" in result.output


def test_replay_by_another_plan_tells_what_it_would_have_done(
    folder: Folder, invoke: Invoke, tmp_path: Path
) -> None:
    folder.until(Phase.DONE)
    other = tmp_path / "other.yaml"
    other.write_text(json.dumps(plan(min_seconds=500.0).to_json()))
    found = json.loads(invoke("replay", "--plan", str(other), "--json").output)
    assert not all(look["equal"] for look in found["looks"])
    assert found["looks"][-1]["is"]["phase"] == "step"


def test_verify_finds_a_changed_byte(folder: Folder, invoke: Invoke) -> None:
    folder.until(Phase.DONE)
    assert "decided again, each the same" in invoke("verify").output
    file = folder.run.audit_file
    file.write_bytes(file.read_bytes().replace(b'"weight":10', b'"weight":11', 1))
    assert isinstance(failure(invoke("verify")), GateError)


def test_verify_finds_a_missing_last_line(folder: Folder, invoke: Invoke) -> None:
    folder.until(Phase.DONE)
    file = folder.run.audit_file
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    assert isinstance(failure(invoke("verify")), GateError)


def test_plan_says_what_to_expect(invoke: Invoke) -> None:
    shown = invoke("plan", "--rate", "50", "--errors", "0.002").output
    assert "promoted in 20 of 20 simulated runs" in shown or "canary requests (median)" in shown


def test_plan_wants_traffic_where_none_can_be_measured(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEATRIAL_STATE", str(tmp_path / "nothing runs here"))
    assert "give --rate" in str(failure(invoke("plan")))


def test_simulate_compares_plans(tmp_path: Path) -> None:
    hour: dict[str, Any] = {"look_seconds": 10.0, "time_cap_seconds": 3600.0}
    (tmp_path / "plan.yaml").write_text(json.dumps(plan(**hour).to_json()))
    other = tmp_path / "other.yaml"
    other.write_text(json.dumps(plan(steps=[50, 100], **hour).to_json()))
    words = ("--rate", "50", "--errors", "0.005", "--runs", "5", "--json")
    result = CliRunner().invoke(cli, ["rollout", "simulate", str(tmp_path), str(other), *words])
    found = json.loads(result.output)["plans"]
    assert [Path(name).name for name in found] == ["plan.yaml", "other.yaml"]
    for cells in found.values():
        assert cells["healthy"]["runs"] == 5
        assert {"2x worse", "scores shifted"} <= cells.keys()


def test_runs_can_be_kept_elsewhere(folder: Folder, tmp_path: Path) -> None:
    folder.until(Phase.STEP)
    folder.runs.path.rename(tmp_path / "kept")
    words = ["rollout", "status", str(folder.path), "--json", "--runs", str(tmp_path / "kept")]
    assert json.loads(CliRunner().invoke(cli, words).output)["phase"] == "step"
