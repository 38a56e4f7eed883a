"""Counts of intervals out of counters of processes, over real sockets."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence

import pytest

from serving.errors import GateError
from serving.rollout.gate.observation import ArmCounts
from serving.rollout.sources import Arms, Look, PredictorSource, Snapshot, Target
from serving.rollout.sources.increments import PATIENCE
from tests.support.counted import EDGES, CountedPod

ARMS = Arms("tiny", "seatrial", "v1", "v2")
BEGAN = 2000.0


class Site:
    """Pods of both arms and a source that reads them at times the test says."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self.targets: list[Target] = []
        self.now = BEGAN
        self.since: Snapshot | None = None
        self.source = PredictorSource(self._list, slow_seconds=0.25, clock=lambda: self.now)

    def pod(self, role: str, name: str | None = None, started: float = 1000.0) -> CountedPod:
        made = self._stack.enter_context(CountedPod("v1" if role == "stable" else "v2", started))
        made.date = "Thu, 01 Jan 1970 00:33:20 GMT"  # BEGAN
        self.targets.append(Target(name or f"{role}-{len(self.targets)}", role, made.address))
        return made

    def look(self, seconds: float = 60.0) -> Look:
        """Looks after so many seconds, the snapshot having been in a file meanwhile."""
        self.now += seconds
        kept = self.since and Snapshot.from_json(json.loads(json.dumps(self.since.to_json())))
        found = self.source.look(ARMS, kept, self.now)
        self.since = found.snapshot
        return found

    def _list(self, arms: Arms) -> Sequence[Target]:
        return list(self.targets)


@pytest.fixture
def site() -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        yield Site(stack)


def counts(arm: ArmCounts | None) -> tuple[int, int, int]:
    assert arm is not None
    return arm.requests, arm.errors, arm.slow


def test_the_first_look_counts_nothing_that_was_before(site: Site) -> None:
    site.pod("stable").answer(50)
    site.pod("canary").answer(5)
    first = site.look()
    assert (first.counts.stable, first.counts.canary) == (None, None)
    second = site.look()
    assert counts(second.counts.stable) == (0, 0, 0)
    assert counts(second.counts.canary) == (0, 0, 0)


def test_an_interval_counts_what_was_answered_in_it(site: Site) -> None:
    stable, canary = site.pod("stable"), site.pod("canary")
    began = site.look().snapshot.time
    stable.answer(90, score=0.9, decision="block")
    stable.answer(10, seconds=0.4)
    canary.answer(7)
    canary.answer(3, code="500", score=None, decision=None)
    found = site.look().counts
    assert (found.start, found.end) == (began, began + 60)
    assert found.score_edges == EDGES
    assert found.stable == ArmCounts(
        100, 0, 10, scores=(10, 0, 0, 90), decisions=(("approve", 10), ("block", 90))
    )
    assert found.canary == ArmCounts(10, 3, 0, scores=(7, 0, 0, 0), decisions=(("approve", 7),))


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("200", False),
        ("400", False),
        ("499", False),
        ("500", True),
        ("504", True),
        ("OK", False),
        ("INVALID_ARGUMENT", False),
        ("INTERNAL", True),
        ("DEADLINE_EXCEEDED", True),
        ("UNAVAILABLE", True),
    ],
)
def test_only_the_servers_own_failures_are_errors(site: Site, code: str, error: bool) -> None:
    site.pod("stable")
    canary = site.pod("canary")
    site.look()
    canary.answer(4, code=code)
    assert counts(site.look().counts.canary) == (4, 4 if error else 0, 0)


def test_replicas_of_an_arm_are_added(site: Site) -> None:
    pods = [site.pod("stable") for _ in range(3)]
    site.pod("canary")
    site.look()
    for n, pod in enumerate(pods, start=1):
        pod.answer(n)
    assert counts(site.look().counts.stable)[0] == 6


@pytest.mark.parametrize("before", [3, 50])
def test_a_restarted_process_counts_from_zero(site: Site, before: int) -> None:
    """Also when it has counted more since than before, which no decrease would show."""
    site.pod("stable")
    canary = site.pod("canary")
    canary.answer(before)
    site.look()
    canary.restart(BEGAN + 70)
    canary.answer(20, code="500")
    assert counts(site.look().counts.canary) == (20, 20, 0)


@pytest.mark.parametrize("jump", [0.01, 3600.0])
def test_a_corrected_host_clock_is_no_restart(site: Site, jump: float) -> None:
    """The start time is reckoned from it, and the pod's Date header moves with it."""
    site.pod("stable")
    canary = site.pod("canary")
    canary.answer(500)
    site.look()
    canary.answer(7)
    canary.started += jump
    canary.start_gauge.set(canary.started)
    canary.date = "Thu, 01 Jan 1970 01:35:20 GMT" if jump > 1 else canary.date
    assert counts(site.look().counts.canary)[0] == 7


def test_a_reset_without_a_start_time_is_seen_by_the_decrease(site: Site) -> None:
    site.pod("stable")
    canary = site.pod("canary")
    canary.answer(30)
    site.look()
    canary.restart(canary.started)
    canary.answer(4)
    assert counts(site.look().counts.canary) == (4, 0, 0)


def test_the_same_snapshot_gives_the_same_interval_again(site: Site) -> None:
    stable = site.pod("stable")
    site.pod("canary")
    kept = site.look().snapshot
    stable.answer(10)
    first = site.look()
    site.since = kept
    again = site.look(0.0)
    assert again == first


def test_a_pod_that_comes_during_the_run_is_counted_in_full(site: Site) -> None:
    site.pod("stable")
    site.pod("canary")
    site.look()
    site.pod("canary", started=BEGAN + 90).answer(8)
    assert counts(site.look().counts.canary)[0] == 8


def test_a_pod_that_was_overlooked_brings_no_history(site: Site) -> None:
    site.pod("stable")
    site.look()
    late = site.pod("canary", started=BEGAN - 500)
    late.answer(900)
    assert site.look().counts.canary is None
    late.answer(5)
    assert counts(site.look().counts.canary)[0] == 5


def test_a_pod_that_came_silent_is_counted_when_it_answers(site: Site) -> None:
    site.pod("stable")
    site.look()
    late = site.pod("canary", started=BEGAN + 61)
    late.answers = False
    assert site.look().counts.canary is None
    late.answers = True
    late.answer(6)
    assert counts(site.look().counts.canary)[0] == 6


@pytest.mark.parametrize(("ahead", "counted"), [(300.0, None), (-300.0, 9)])
def test_a_pods_wrong_clock_does_not_make_it_new_or_old(
    site: Site, ahead: float, counted: int | None
) -> None:
    """A pod that began 200 s before the run, or 100 s after its start, by a clock that is off."""
    site.pod("stable")
    site.look()
    began = site.now - 200 if counted is None else site.now + 30
    late = site.pod("canary", started=began + ahead)
    late.date = f"Thu, 01 Jan 1970 00:{39 if ahead > 0 else 29}:20 GMT"
    late.answer(9)
    found = site.look().counts.canary
    assert (None if found is None else found.requests) == counted


def test_a_pod_that_goes_takes_nothing_back(site: Site) -> None:
    stays, goes = site.pod("stable"), site.pod("stable")
    site.pod("canary")
    site.look()
    goes.answer(40)
    stays.answer(2)
    site.targets = [t for t in site.targets if t.address != goes.address]
    assert counts(site.look().counts.stable)[0] == 2
    stays.answer(3)
    assert counts(site.look().counts.stable)[0] == 3


def test_a_missing_scrape_keeps_the_interval_open_for_both_arms(site: Site) -> None:
    stable, canary = site.pod("stable"), site.pod("canary")
    began = site.look().snapshot.time
    stable.answer(10)
    canary.answer(4)
    canary.answers = False
    found = site.look().counts
    assert (found.stable, found.canary) == (None, None)
    stable.answer(1)
    canary.answers = True
    found = site.look().counts
    assert found.start == began
    assert (counts(found.stable)[0], counts(found.canary)[0]) == (11, 4)


def test_a_pod_that_stays_silent_holds_nothing_up_for_long(site: Site) -> None:
    stable, canary = site.pod("stable"), site.pod("canary")
    dead = site.pod("canary")
    site.look()
    dead.answers = False
    for _ in range(PATIENCE):
        stable.answer(5)
        canary.answer(1)
        assert site.look().counts.stable is None
    found = site.look().counts
    assert (counts(found.stable)[0], counts(found.canary)[0]) == (5 * PATIENCE, PATIENCE)
    dead.answer(700)
    dead.answers = True
    assert counts(site.look().counts.canary)[0] == 0
    dead.answer(2)
    assert counts(site.look().counts.canary)[0] == 2


def test_an_arm_without_pods_is_unknown_and_one_without_traffic_is_zero(site: Site) -> None:
    site.pod("stable")
    site.look()
    found = site.look().counts
    assert counts(found.stable) == (0, 0, 0)
    assert found.canary is None


def test_a_clock_set_back_does_not_turn_the_interval_around(site: Site) -> None:
    site.pod("stable").answer(1)
    began = site.look().snapshot.time
    found = site.look(-500.0).counts
    assert (found.start, found.end) == (began, began)


def test_no_request_is_lost_or_doubled_while_scrapes_race_with_traffic(site: Site) -> None:
    """Errors never exceed requests in an interval, and everything adds up in the end."""
    site.pod("stable")
    canary = site.pod("canary")
    site.look()

    def traffic(n: int) -> None:
        for _ in range(n):
            canary.answer(1, code="500", seconds=0.4, score=None, decision=None)

    totals = [0, 0, 0]

    def add() -> None:
        found = counts(site.look().counts.canary)
        assert found[1] <= found[0]
        assert found[2] <= found[0]
        for i, n in enumerate(found):
            totals[i] += n

    threads = [threading.Thread(target=traffic, args=(3000,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        add()
    add()
    # What was seen before its request waits for another one.
    canary.answer(5, score=None, decision=None)
    add()
    assert totals == [6005, 6000, 6000]


def test_a_bound_between_two_edges_is_refused(site: Site) -> None:
    site.pod("stable")
    source = PredictorSource(lambda _: site.targets, slow_seconds=0.3)
    with pytest.raises(GateError, match=r"0\.3 s.*choose one of 0\.05, 0\.1, 0\.25, 1"):
        source.look(ARMS, None, BEGAN)
