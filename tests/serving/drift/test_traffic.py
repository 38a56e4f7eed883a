from __future__ import annotations

import pytest

from serving.drift.traffic import DAY, LEAST, Traffic


def test_the_run_length_is_the_rows_of_so_many_days() -> None:
    traffic = Traffic(30, 0, now=0.0)
    for second in range(7200):
        traffic.add(100, float(second))
    assert traffic.average_run_length == pytest.approx(100 * 30 * DAY, rel=0.02)


def test_little_traffic_has_the_least_run_length() -> None:
    traffic = Traffic(30, 0, now=0.0)
    traffic.add(10, 1.0)
    assert traffic.average_run_length == LEAST


def test_a_busy_hour_counts_though_the_day_was_quiet() -> None:
    traffic = Traffic(30, 0, now=0.0)
    for minute in range(1440):
        traffic.add(60, minute * 60.0)
    for minute in range(1440, 1500):
        traffic.add(60_000, minute * 60.0)
    assert traffic.rate > 500


def test_a_clock_that_goes_back_changes_nothing() -> None:
    traffic = Traffic(30, 0, now=100.0)
    traffic.add(10, 50.0)
    traffic.add(10, 20.0)
    assert 0 < traffic.rate < 1


def test_a_fixed_run_length_stays() -> None:
    traffic = Traffic(30, 5000, now=0.0)
    traffic.add(10**9, 1.0)
    assert traffic.average_run_length == 5000
