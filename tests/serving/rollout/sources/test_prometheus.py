"""Raw counters out of Prometheus' HTTP API."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from serving.errors import GateError
from serving.rollout.sources import Arms, Look, PrometheusSource, Snapshot
from tests.support.counted import CountedPod
from tests.support.prometheus import Prometheus

ARMS = Arms("tiny", "seatrial", "v1", "v2")
BEGAN = 10_000.0


class Site:
    def __init__(self, server: Prometheus, stack: contextlib.ExitStack) -> None:
        self.server = server
        self.stable = stack.enter_context(CountedPod("v1"))
        self.canary = stack.enter_context(CountedPod("v2"))
        self.source = PrometheusSource(server.url, step_seconds=60, matchers='namespace="seatrial"')
        self.since: Snapshot | None = None

    def scrape(self, at: float, *pods: CountedPod) -> None:
        for pod in pods or (self.stable, self.canary):
            name = "v1-a" if pod is self.stable else "v2-a"
            self.server.scrape(at, pod.samples(), pod=name, namespace="seatrial")

    def look(self, now: float) -> Look:
        found = self.source.look(ARMS, self.since, now)
        self.since = found.snapshot
        return found


@pytest.fixture
def site() -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        yield Site(stack.enter_context(Prometheus()), stack)


def requests(look: Look) -> tuple[int | None, int | None]:
    stable, canary = look.counts.stable, look.counts.canary
    return (
        None if stable is None else stable.requests,
        None if canary is None else canary.requests,
    )


def test_an_interval_is_the_difference_of_raw_counters(site: Site) -> None:
    site.stable.answer(1000)
    site.scrape(BEGAN - 5)
    site.look(BEGAN)
    site.stable.answer(90)
    site.canary.answer(9)
    site.canary.answer(1, code="500")
    site.scrape(BEGAN + 55)
    found = site.look(BEGAN + 60)
    assert requests(found) == (90, 10)
    assert found.counts.canary is not None
    assert found.counts.canary.errors == 1
    assert found.counts.canary.scores == (10, 0, 0, 0)
    assert not any("increase" in query or "rate" in query for query in site.server.queries)


def test_after_an_outage_every_interval_is_read_by_itself(site: Site) -> None:
    site.scrape(BEGAN - 5)
    site.look(BEGAN)
    for minute in range(1, 4):
        site.stable.answer(minute)
        site.canary.answer(minute * 10)
        site.scrape(BEGAN + 60 * minute - 5)
    late = BEGAN + 185
    looks = [site.look(late), site.look(late), site.look(late)]
    assert [requests(look) for look in looks] == [(1, 10), (2, 20), (3, 30)]
    assert [look.counts.end - look.counts.start for look in looks] == [60, 60, 60]
    assert [look.more for look in looks] == [True, True, False]


def test_a_pod_not_scraped_since_the_interval_began_keeps_it_open(site: Site) -> None:
    site.scrape(BEGAN - 5)
    site.look(BEGAN)
    site.stable.answer(10)
    site.canary.answer(5)
    site.scrape(BEGAN + 50, site.stable)
    assert requests(site.look(BEGAN + 60)) == (None, None)
    site.scrape(BEGAN + 100)
    found = site.look(BEGAN + 120)
    assert requests(found) == (10, 5)
    assert found.counts.start == BEGAN


def test_a_restart_between_scrapes_is_a_reset(site: Site) -> None:
    site.canary.answer(5)
    site.scrape(BEGAN - 5)
    site.look(BEGAN)
    site.canary.restart(BEGAN + 10)
    site.canary.answer(30)
    site.scrape(BEGAN + 55)
    assert requests(site.look(BEGAN + 60)) == (0, 30)


def test_a_pod_that_comes_is_counted_and_one_that_went_is_not(site: Site) -> None:
    site.stable.answer(7)
    site.scrape(BEGAN - 5, site.stable)
    site.look(BEGAN)
    site.canary.restart(BEGAN + 10)
    site.canary.answer(3)
    site.scrape(BEGAN + 55)
    assert requests(site.look(BEGAN + 60)) == (0, 3)
    site.scrape(BEGAN + 400, site.stable)  # the canary is out of Prometheus' lookback
    site.since = Snapshot(BEGAN + 350, site.since.pods if site.since else {})
    assert requests(site.look(BEGAN + 410)) == (0, None)


def test_other_namespaces_and_sidecars_of_the_pod_are_not_mixed_in(site: Site) -> None:
    site.scrape(BEGAN - 5)
    sidecar: list[tuple[str, dict[str, str], float]] = [("process_start_time_seconds", {}, 5.0)]
    target = {"pod": "v1-a", "namespace": "seatrial", "instance": "10.0.0.1:9095"}
    site.server.scrape(BEGAN - 5, sidecar, **target)
    site.server.scrape(BEGAN - 5, site.stable.samples(), pod="v1-a", namespace="other")
    site.look(BEGAN)
    site.stable.answer(4)
    site.scrape(BEGAN + 55)
    assert requests(site.look(BEGAN + 60)) == (4, 0)


def test_nothing_known_is_not_zero(site: Site) -> None:
    site.look(BEGAN)
    assert requests(site.look(BEGAN + 60)) == (None, None)


def test_says_what_prometheus_refuses(site: Site) -> None:
    source = PrometheusSource(site.server.url, step_seconds=60, matchers="namespace=seatrial")
    with pytest.raises(GateError, match="refuses .*parse error"):
        source.look(ARMS, None, BEGAN)


def test_says_when_nobody_answers(site: Site) -> None:
    source = PrometheusSource("http://127.0.0.1:1", step_seconds=60)
    with pytest.raises(GateError, match="does not answer"):
        source.look(ARMS, None, BEGAN)


def test_wants_series_that_name_their_pod(site: Site) -> None:
    site.server.scrape(BEGAN - 5, site.stable.samples(), namespace="seatrial")
    with pytest.raises(GateError, match="pod, instance"):
        site.look(BEGAN)
