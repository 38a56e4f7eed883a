"""The demo's retrain receiver: a real process, events as the player writes them, a command."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from seatrial.demo.retraining import Retraining, train_command
from serving.errors import StageError
from serving.retrain.launcher import Template
from tests.serving.drift.stream import Sidecar, Sink, columns, wait_until

BUNDLE = "ab" * 32
SINCE = "2026-03-01T12:00:00+00:00"


def event(
    number: int, kind: str = "opened", at: str = "2026-03-01T12:00:05.000Z"
) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"event-{number}",
        "source": "/seatrial/fraud/v1/drift",
        "type": f"io.seatrial.drift.{kind}",
        "time": at,
        "data": {"model": "fraud", "bundle": BUNDLE, "severity": "warning"},
    }


class Stage:
    def __init__(self, folder: Path, script: str) -> None:
        self.events = folder / "events.jsonl"
        (folder / "run.py").write_text(script)
        command = [sys.executable, str(folder / "run.py"), "{bundle}", str(folder / "out")]
        log = folder / "retrain.log"
        self.retraining = Retraining(folder / "journal", self.events, SINCE, command, log)
        self.retraining.start()

    def tell(self, *events: dict[str, Any]) -> None:
        with self.events.open("a") as file:
            file.writelines(json.dumps(one) + "\n" for one in events)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[[str], Stage]]:
    started: list[Stage] = []

    def start(script: str) -> Stage:
        started.append(Stage(tmp_path, script))
        return started[-1]

    yield start
    for one in started:
        one.retraining.kill()


def wait() -> None:
    time.sleep(0.05)


SAYS = (
    "import json, sys\nprint('noise')\nprint(json.dumps({'bundle': sys.argv[2] + sys.argv[1]}))\n"
)


def test_an_event_of_this_run_leads_to_the_bundle_that_its_run_says(
    stage: Callable[[str], Stage], tmp_path: Path
) -> None:
    ours = stage(SAYS)
    ours.tell(event(1, at="2026-02-28T12:00:00.000Z"), event(2), event(3, "heartbeat"))
    opened = ours.retraining.await_event("opened", BUNDLE, 5.0, wait)
    assert opened["id"] == "event-2"
    assert ours.retraining.await_run(opened, 20.0, wait) == tmp_path / f"out{BUNDLE}"
    states = {e["id"]: e["state"] for e in ours.retraining.status()["events"]}
    assert states == {"event-2": "succeeded", "event-3": "skipped"}
    ours.retraining.stop()


def test_a_later_event_starts_no_other_run(stage: Callable[[str], Stage]) -> None:
    ours = stage(SAYS)
    ours.tell(event(1))
    first = ours.retraining.await_event("opened", BUNDLE, 5.0, wait)
    ours.retraining.await_run(first, 20.0, wait)
    ours.tell(event(2), event(3, "resolved"))
    ours.retraining.await_event("resolved", BUNDLE, 5.0, wait)
    time.sleep(0.5)
    told = {e["id"]: e["state"] for e in ours.retraining.status()["events"]}
    assert told["event-2"] in ("held", "skipped")


def test_a_run_that_fails_or_an_event_that_never_comes_is_a_failed_stage(
    stage: Callable[[str], Stage],
) -> None:
    ours = stage("raise SystemExit(3)")
    with pytest.raises(StageError, match="told of drift opened"):
        ours.retraining.await_event("opened", BUNDLE, 0.2, wait)
    ours.tell(event(1))
    opened = ours.retraining.await_event("opened", BUNDLE, 5.0, wait)
    with pytest.raises(StageError, match="led to no new bundle: failed"):
        ours.retraining.await_run(opened, 20.0, wait)


def test_a_receiver_that_is_gone_is_a_failed_stage(stage: Callable[[str], Stage]) -> None:
    ours = stage(SAYS)
    ours.retraining.kill()
    with pytest.raises(StageError, match="the retrain receiver ended with code -9"):
        ours.retraining.deliver()


def test_ending_the_stage_ends_its_run(stage: Callable[[str], Stage], tmp_path: Path) -> None:
    ours = stage(
        "import os, sys, time\nopen(sys.argv[2], 'w').write(str(os.getpid()))\ntime.sleep(60)"
    )
    ours.tell(event(1))
    ours.retraining.await_event("opened", BUNDLE, 5.0, wait)
    deadline = time.monotonic() + 20
    while not ((tmp_path / "out").exists() and (tmp_path / "out").read_text()):
        assert time.monotonic() < deadline
        wait()
    ours.retraining.kill()
    pid = int((tmp_path / "out").read_text())
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        wait()


def test_braces_in_a_folders_name_are_no_places(tmp_path: Path) -> None:
    odd = tmp_path / "{data}"
    command = train_command(odd, odd, odd, work=odd, seed=1, window=(0.5, 2.0))
    assert all(Template("command", part) for part in command)
    assert "{bundle}" in command


def test_a_sidecar_that_keeps_no_state_tells_the_end_of_its_episode(tmp_path: Path) -> None:
    """How an event is resolved when its bundle's pod goes after a promotion."""
    sink = Sink()
    flags = ("--sink", sink.url, "--average_run_length", "100000")
    sidecar = Sidecar(Path(sys.executable), tmp_path / "log", *flags)
    sidecar.introduce()
    shifted = columns(2_000, 6)
    shifted["amount"] = shifted["amount"] * 1.5
    sidecar.send(shifted, "shifted")
    wait_until(lambda: bool(sink.of("opened")), "the opened event")
    assert sidecar.stop() == 0
    (resolved,) = sink.of("resolved")
    assert resolved["reason"] == "its sidecar has ended and keeps no state"
    sink.close()
