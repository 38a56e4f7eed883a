"""kill -9 at any point of a look: nothing counted twice, nothing lost, no step skipped."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.rollout.gate import Phase
from serving.rollout.gate.audit import AuditLog, verify
from serving.rollout.gate.observation import Observation
from serving.rollout.gate.replay import replay
from serving.rollout.run.lead import lead
from serving.rollout.run.lease import FileLease
from serving.rollout.run.store import Run, Runs
from tests.support.gates import Road, Traffic, plan

FORK = multiprocessing.get_context("fork")
POINTS = (
    "before the source is read",
    "after the source was read",
    "before the record",
    "after the record",
    "after the audit line",
    "before the write",
    "after the write",
    "after it settled",
)
WEIGHTS = [
    {"v1": 90, "v2": 10},
    {"v1": 50, "v2": 50},
    {"v1": 0, "v2": 100},
    {"v2": 100, "v1": 0},
    {"v2": 100},
]


class Halt:
    """Says that a point was reached for the nth time, and waits there to be killed."""

    def __init__(self, file: Path, point: str, nth: int) -> None:
        self._file, self._point, self._left = file, point, nth

    def at(self, point: str) -> None:
        if point != self._point:
            return
        self._left -= 1
        if self._left == 0:
            self._file.touch()
            while True:
                signal.pause()

    def around(self, call: Callable[..., Any], before: str, after: str) -> Callable[..., Any]:
        @functools.wraps(call)
        def halting(*arguments: Any, **named: Any) -> Any:
            self.at(before)
            found = call(*arguments, **named)
            self.at(after)
            return found

        return halting


def gate(folder: Path, began: float, point: str = "never", nth: int = 1) -> None:
    """A gate's process; it stands still at the point."""
    halt = Halt(folder / "reached", point, nth)
    traffic, road = Traffic(began), Road(folder / "deploy")
    # Only in this process, which is a fork of the test's.
    traffic.look = halt.around(traffic.look, POINTS[0], POINTS[1])  # type: ignore[method-assign]
    Run.save = halt.around(Run.save, POINTS[2], POINTS[3])  # type: ignore[method-assign]
    AuditLog.append = halt.around(AuditLog.append, "", POINTS[4])  # type: ignore[method-assign]
    road.write = halt.around(road.write, POINTS[5], POINTS[6])  # type: ignore[method-assign]
    road.settled = halt.around(road.settled, "", POINTS[7])  # type: ignore[method-assign]
    runs = Runs(folder / "runs")
    lead(runs, plan(), traffic, road, FileLease(runs.lease_file))


def killed_at(folder: Path, began: float, point: str, nth: int) -> None:
    process = FORK.Process(target=gate, args=(folder, began, point, nth), daemon=True)
    process.start()
    deadline = time.monotonic() + 20
    while not (folder / "reached").exists():
        assert process.is_alive(), "the gate ended before it came to that point"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (folder / "reached").unlink()


@pytest.mark.parametrize("nth", [2, 4])
@pytest.mark.parametrize("point", POINTS)
def test_a_killed_gate_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, point: str, nth: int
) -> None:
    began = time.time() - 5
    road = Road(tmp_path / "deploy").lay()
    killed_at(tmp_path, began, point, nth)
    process = FORK.Process(target=gate, args=(tmp_path, began), daemon=True)
    process.start()
    process.join(30)
    assert process.exitcode == 0
    _check(Runs(tmp_path / "runs").get(), Traffic(began), road)


def test_a_gate_killed_at_every_point_in_turn_still_promotes(tmp_path: Path) -> None:
    began = time.time() - 5
    road = Road(tmp_path / "deploy").lay()
    for point in POINTS:
        killed_at(tmp_path, began, point, 1)
    process = FORK.Process(target=gate, args=(tmp_path, began), daemon=True)
    process.start()
    process.join(30)
    assert process.exitcode == 0
    _check(Runs(tmp_path / "runs").get(), Traffic(began), road)


def _check(run: Run, traffic: Traffic, road: Road) -> None:
    state = run.load()
    assert state.phase is Phase.DONE
    assert road.weights() == WEIGHTS
    entries = verify(run.audit_file)
    assert replay(entries).different == ()
    seen = [
        Observation.from_json(entry.body["observation"])
        for entry in entries
        if entry.kind == "look"
    ]
    counted = [one for one in seen if one.canary is not None]
    # Each interval begins where the last one ended, and all of them hold all that happened.
    assert [b.start for b in counted[1:]] == [a.end for a in counted[:-1]]
    for role in ("stable", "canary"):
        first = traffic.totals(role, counted[0].start)[0]
        last = traffic.totals(role, counted[-1].end)[0]
        arms = [getattr(one, role) for one in counted]
        assert sum(arm.requests for arm in arms) == last - first
    assert [move["Evidence-SHA256"] for move in road.moves()] == [
        entry.hash
        for entry in entries
        if entry.kind == "look"
        and entry.body["decision"]["action"]["kind"] not in ("hold", "roll-back")
        and entry.body["decision"]["action"]["weight"] != 0
    ]
