"""The breaker opens after failures in a row, probes, and closes again."""

from __future__ import annotations

from serving.policy import Breaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_stays_closed_while_failures_are_not_in_a_row() -> None:
    breaker = Breaker(3, 1.0, clock=Clock())
    for _ in range(10):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
        assert breaker.allows()


def test_opens_lets_one_probe_through_and_closes_on_its_success() -> None:
    clock = Clock()
    breaker = Breaker(3, 1.0, clock=clock)
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    assert not breaker.allows()
    clock.now = 1.0
    assert breaker.allows()
    assert not breaker.allows()
    breaker.succeeded()
    assert breaker.allows()
    assert breaker.allows()


def test_waits_twice_as_long_after_each_failed_probe_up_to_a_limit() -> None:
    clock = Clock()
    breaker = Breaker(1, 1.0, longest=3.0, clock=clock)
    breaker.failed()
    for wait in (1.0, 2.0, 3.0, 3.0):
        clock.now += wait - 0.01
        assert not breaker.allows()
        clock.now += 0.02
        assert breaker.allows()
        breaker.failed()
