"""The whole story, as `make demo KEEP=1` tells it, and what must hold while it runs."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from components.train.model import load_model, scores
from pipelines.local import step_output
from seatrial.demo.guard import demo_plan
from seatrial.demo.shift import SHIFTED
from seatrial.replay import read_rows
from serving.bundle import open_bundle
from serving.rollout.gate import parse_plan
from tests.e2e.asking import scores_over_http
from tests.e2e.running import Demo, all_gone, demo, free_port, listens

pytestmark = [pytest.mark.alone, pytest.mark.timeout(480), pytest.mark.usefixtures("drift_python")]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo with its defaults, ended, and its system left running."""
    with demo(tmp_path_factory.mktemp("demo"), "--keep") as run:
        code = run.wait(420)
        assert code == 0, run.output
        yield run


@pytest.fixture(scope="module")
def facts(told: Demo) -> dict[str, Any]:
    return told.facts()


def test_every_stage_ends_as_it_must(facts: dict[str, Any]) -> None:
    assert facts["ok"] is True
    assert [(s["name"], s["ok"]) for s in facts["stages"]] == [
        (name, True)
        for name in (
            *("data", "pipeline", "serve", "drift", "canary"),
            *("failing canary", "shifted canary", "report"),
        )
    ]


def test_the_table_has_200_000_rows_and_half_to_one_percent_fraud(facts: dict[str, Any]) -> None:
    assert facts["data"]["rows"] >= 200_000
    assert 0.005 <= facts["data"]["positives"] / facts["data"]["rows"] <= 0.01


def test_takes_at_most_6_minutes_and_8_gib(told: Demo, facts: dict[str, Any]) -> None:
    started, finished = (datetime.fromisoformat(facts[key]) for key in ("started", "finished"))
    assert (finished - started).total_seconds() <= 360
    assert told.peak_bytes < 8 * 2**30


def test_no_answer_fails_because_the_rollout_moved(facts: dict[str, Any]) -> None:
    traffic = facts["traffic"]
    assert traffic["failed_by_move"] == 0
    assert traffic["rate"] >= 300
    assert {row["wire"] for row in traffic["by_arm"]} == {"http", "grpc"}
    assert traffic["answers"] == sum(row["requests"] for row in traffic["by_arm"])
    errors = {row["arm"] for row in traffic["by_arm"] if row["errors"]}
    assert errors == {"v3"}


def test_sixteen_connections_get_every_answer(facts: dict[str, Any]) -> None:
    gateway = facts["gateway"]
    assert (gateway["connections"], gateway["errors"]) == (16, 0)
    assert gateway["p50_ms"] <= gateway["p99_ms"]
    assert 0 <= gateway["under_100ms"] <= 1


def test_the_shift_leads_to_an_event_a_run_a_promotion_and_the_events_end(
    told: Demo, facts: dict[str, Any]
) -> None:
    loop, (v1, v2, *_) = facts["drift"], facts["bundles"]
    opened, resolved = loop["opened"], loop["resolved"]
    assert opened["type"] == "io.seatrial.drift.opened"
    assert opened["data"]["bundle"] == v1["digest"]
    assert opened["data"]["features"][0]["name"] in SHIFTED
    assert resolved["type"] == "io.seatrial.drift.resolved"
    assert opened["time"] < resolved["time"]
    runs = {e["id"]: e["run"] for e in loop["receiver"]["events"] if e["run"]}
    assert list(runs) == [opened["id"]]
    log = (told.run / "retrain" / "runs" / runs[opened["id"]] / "log").read_text()
    assert v2["name"] in log
    assert "What moved first, and how much" in (told.run / "report.html").read_text()


def test_the_weights_follow_the_gate(facts: dict[str, Any]) -> None:
    assert [(entry["step"], entry["weights"]) for entry in facts["timeline"]] == [
        ("v1 serves", {"v1": 100}),
        ("v2 enters", {"v1": 100, "v2": 0}),
        ("v2 10 %", {"v1": 90, "v2": 10}),
        ("v2 25 %", {"v1": 75, "v2": 25}),
        ("v2 50 %", {"v1": 50, "v2": 50}),
        ("v2 100 %", {"v1": 0, "v2": 100}),
        ("v2 promoted", {"v2": 100, "v1": 0}),
        ("cleaned up", {"v2": 100}),
        ("v3 enters", {"v2": 100, "v3": 0}),
        ("v3 10 %", {"v2": 90, "v3": 10}),
        ("v3 rolled back", {"v2": 100, "v3": 0}),
        ("cleaned up", {"v2": 100}),
        ("v4 enters", {"v2": 100, "v4": 0}),
        ("v4 10 %", {"v2": 90, "v4": 10}),
        ("v4 rolled back", {"v2": 100, "v4": 0}),
        ("cleaned up", {"v2": 100}),
    ]


def test_the_gate_runs_with_the_error_rates_of_production(facts: dict[str, Any]) -> None:
    errors = {"kind": "errors", "max_rate": 0.01}
    usual = parse_plan({"canary": "v2", "metrics": [errors]}, "a plan")
    for run in facts["gate"]:
        assert (run["alpha"], run["beta"], run["psi_max"]) == (
            *(usual.alpha, usual.beta),
            usual.psi_max,
        )
    assert demo_plan("v2").steps == usual.steps


def test_each_canary_ends_by_the_evidence_it_gave(facts: dict[str, Any]) -> None:
    ends = {run["canary"]: run["outcome"] for run in facts["gate"]}
    assert ends == {"v2": "done", "v3": "rolled-back", "v4": "rolled-back"}
    crossed = {
        run["canary"]: {
            reading["kind"]
            for look in run["looks"]
            for reading in look["readings"]
            if reading["against"] is not None and reading["against"] >= reading["against_at"]
        }
        for run in facts["gate"]
    }
    assert crossed == {"v2": set(), "v3": {"errors"}, "v4": {"scores"}}


def test_the_audit_of_the_last_run_verifies(told: Demo) -> None:
    checked = told.seatrial("rollout", "verify", str(told.run / "deploy"))
    assert checked.returncode == 0, checked.stderr


def test_promotion_keeps_the_predictors_process(facts: dict[str, Any]) -> None:
    pids = {entry["pids"].get("v2") for entry in facts["timeline"] if "v2" in entry["pids"]}
    assert len(pids) == 1
    assert psutil.pid_exists(pids.pop())


def test_git_history_is_the_rollouts_history(told: Demo, facts: dict[str, Any]) -> None:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=told.run / "deploy", capture_output=True, text=True, check=True
        ).stdout

    commits = {entry["step"]: entry["commit"] for entry in facts["timeline"]}
    subjects = git("log", "--reverse", "--format=%s").splitlines()
    assert len(subjects) == len(facts["timeline"])
    trailers = git("show", "--no-patch", "--format=%(trailers:only)", commits["v2 promoted"])
    assert "Canary-Run: " in trailers
    assert "Evidence-SHA256: " in trailers
    half = git("show", "--unified=0", "--format=", commits["v2 50 %"])
    changed = [line for line in half.splitlines() if re.match(r"[-+](?![-+])", line)]
    assert [line[0] for line in changed] == ["-", "+"]
    assert [line.split()[-1] for line in changed] == ["25", "50"]
    promotion = git("show", "--format=", commits["v2 promoted"])
    assert promotion.count("\n@@ ") == 1


def test_bundles_are_linked_and_verify(told: Demo, facts: dict[str, Any]) -> None:
    v1, v2, v3, v4 = facts["bundles"]
    assert [v["parent"] for v in (v1, v2, v3)] == [None, v1["digest"], v2["digest"]]
    assert v4["parent"] == v2["digest"]
    assert v1["data"] != v2["data"]
    for bundle in facts["bundles"]:
        found = open_bundle(told.run / "bundles" / bundle["name"])
        assert found.digest == bundle["digest"]


def test_prints_three_commands_that_work(told: Demo) -> None:
    printed = told.output[told.output.index("Next:") :].splitlines()[1:4]
    curl, status, report = (line.strip() for line in printed)
    answer = subprocess.run(curl, shell=True, capture_output=True, text=True, check=True)  # noqa: S602
    outputs = {o["name"]: o["data"] for o in json.loads(answer.stdout)["outputs"]}
    assert 0 <= outputs["score"][0] <= 1
    assert outputs["decision"][0] in ("approve", "review", "decline")
    subprocess.run(status, shell=True, env=told.environment, capture_output=True, check=True)  # noqa: S602
    shown = told.seatrial("status", "--json")
    assert [arm["name"] for arm in json.loads(shown.stdout)["arms"]] == ["v2"]
    assert Path(report.split()[-1]).stat().st_size > 10_000


def test_the_gateway_gives_the_score_that_pytorch_computes(told: Demo) -> None:
    """From the same raw rows: categories, missing values and all."""
    network = load_model(step_output(told.run / "work" / "v2", "train", "network"))
    held_out = read_rows(told.run / "data" / "held_out.parquet", network.contract)
    columns = {name: column[:2000] for name, column in held_out.items()}
    assert any(np.isnan(c).any() for c in columns.values() if c.dtype.kind == "f")
    assert any(c.dtype == object for c in columns.values())
    served = scores_over_http(f"127.0.0.1:{told.port}", "fraud", network.contract, columns)
    assert len(served) == 2000
    np.testing.assert_allclose(served, scores(network, columns), rtol=0, atol=1e-5)


def test_the_report_command_gives_the_same_facts(told: Demo, facts: dict[str, Any]) -> None:
    shown = told.seatrial("report", str(told.run), "--json")
    assert json.loads(shown.stdout) == facts


def test_a_second_demo_does_not_disturb_the_one_left_running(told: Demo) -> None:
    refused = told.seatrial("demo", "--port", str(free_port()), "--runs", str(told.folder / "no"))
    assert refused.returncode == 1
    assert "run 'seatrial down' first" in refused.stderr
    assert listens(told.port)


def test_every_socket_is_bound_to_loopback_only(told: Demo) -> None:
    listening = [
        connection.laddr.ip.removeprefix("::ffff:")  # gRPC: IPv4 on a socket of both families
        for process in told.processes()
        for connection in process.connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 5
    assert set(listening) == {"127.0.0.1"}


def test_the_checkout_stays_clean(pytestconfig: pytest.Config) -> None:
    ignored = subprocess.run(
        ["git", "check-ignore", "runs/x/facts.json"],
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ignored.returncode == 0


def test_the_promoted_state_comes_back_after_everything_was_killed(told: Demo) -> None:
    processes = [p for p in told.processes() if p.pid != told.process.pid]
    told.child("serving.local").kill()
    assert all_gone(processes, 5)
    assert not listens(told.port)
    shown = told.seatrial("up", str(told.run / "deploy"), "--json")
    assert shown.returncode == 0, shown.stderr
    (arm,) = json.loads(shown.stdout)["arms"]
    assert (arm["name"], arm["weight"], arm["ready"]) == ("v2", 100, True)
    assert arm["digest"] == told.facts()["bundles"][1]["digest"]
