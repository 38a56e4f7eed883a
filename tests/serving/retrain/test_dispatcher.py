from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.retrain.dispatcher import Dispatcher
from serving.retrain.journal import Journal, State
from serving.retrain.launcher import LaunchError, MemoryLauncher, RunState
from serving.retrain.metrics import Metrics
from serving.retrain.rules import Rules
from tests.serving.retrain.receivers import event


class Desk:
    """A dispatcher without its thread, and a clock that a test moves."""

    def __init__(self, folder: Path) -> None:
        self.now = 100.0
        self.launcher = MemoryLauncher()
        self.metrics = Metrics()
        self.journal = Journal(folder)
        self.dispatcher = Dispatcher(
            self.journal,
            self.launcher,
            Rules(cooldown=50.0),
            self.metrics,
            poll=1.0,
            clock=lambda: self.now,
        )

    def receive(self, number: int, **changes: str) -> None:
        self.journal.add(event(number, **changes), self.now)
        self.dispatcher.step()

    def states(self) -> list[State]:
        return [record.state for record in self.journal.records()]

    def runs(self, state: str, model: str = "fraud") -> float:
        labels = {"model": model, "state": state}
        return self.metrics.registry.get_sample_value("seatrial_retrain_runs_total", labels) or 0.0


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    found = Desk(tmp_path)
    yield found
    found.journal.close()


def test_one_run_at_a_time_for_a_model_and_the_next_after_the_cool_down(desk: Desk) -> None:
    desk.receive(1)
    desk.now += 1
    desk.receive(2)
    assert list(desk.launcher.runs) == ["event-1"]
    desk.launcher.runs["event-1"] = RunState.SUCCEEDED
    desk.dispatcher.step()
    assert desk.states() == [State.SUCCEEDED, State.HELD]
    desk.now += 51
    desk.dispatcher.step()
    assert list(desk.launcher.runs) == ["event-1", "event-2"]
    assert (desk.runs("started"), desk.runs("succeeded")) == (2, 1)


def test_models_do_not_wait_for_one_another(desk: Desk) -> None:
    desk.receive(1)
    desk.receive(2, model="churn")
    assert list(desk.launcher.runs) == ["event-1", "event-2"]


def test_a_start_that_fails_is_tried_again_with_longer_pauses(desk: Desk) -> None:
    desk.launcher.errors = [LaunchError("no connection")] * 2
    desk.receive(1)
    assert desk.dispatcher.status()["events"][0]["why"] == "no connection"
    for wait, started in ((0.5, False), (0.6, False), (1.0, False), (1.1, True)):
        desk.now += wait
        desk.dispatcher.step()
        assert bool(desk.launcher.runs) is started, desk.now


def test_a_start_that_cannot_succeed_is_given_up_at_once(desk: Desk) -> None:
    desk.launcher.errors = [LaunchError("no such parameter", final=True)]
    desk.receive(1)
    assert desk.states() == [State.FAILED]
    assert desk.runs("not_started") == 1


def test_a_start_that_fails_for_an_hour_is_given_up(desk: Desk) -> None:
    desk.launcher.errors = [LaunchError("no connection")] * 2
    desk.receive(1)
    desk.now += 3601
    desk.dispatcher.step()
    assert desk.states() == [State.FAILED]


def test_status_says_why_nothing_was_started(desk: Desk) -> None:
    desk.receive(1, kind="io.seatrial.drift.heartbeat")
    (told,) = desk.dispatcher.status()["events"]
    assert (told["state"], told["why"]) == (
        "skipped",
        "type io.seatrial.drift.heartbeat starts no run",
    )
