from __future__ import annotations

import numpy as np

from serving.drift.encoding import Column, Matrix
from serving.drift.watch import Watch, WatchSettings, learn_tolerance
from tests.serving.drift.rows import COLUMNS, rows

HOURLY = (Column("busy", "number"), Column("calm", "number"))


def days(count: int, seed: int) -> Matrix:
    """`busy` moves by one standard deviation through days of 2,000 rows; `calm` does not."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(count, 2))
    numbers[:, 0] += np.sin(2 * np.pi * np.arange(count) / 2000)
    return numbers


def reference_of(training: Matrix) -> Matrix:
    order = np.random.default_rng(0).permutation(len(training))
    return training[np.sort(order[: len(training) // 2])]


def test_days_that_training_knew_leave_it_silent_and_others_do_not() -> None:
    training = days(40_000, seed=1)
    reference = reference_of(training)
    learned = learn_tolerance(HOURLY, reference, training)
    assert "location" in learned["busy"]
    taught = Watch(HOURLY, reference, WatchSettings(tolerance=learned))
    untaught = Watch(HOURLY, reference, WatchSettings())
    assert untaught.observe(days(20_000, seed=2)).crossed
    assert not taught.observe(days(100_000, seed=2)).crossed
    taught.restart()
    stream = days(4000, seed=3)
    stream[:, 0] += 2.0
    assert taught.observe(stream).crossed
    assert taught.findings()[0].column == "busy"


def test_what_one_column_does_through_the_day_costs_the_others_nothing() -> None:
    training = days(40_000, seed=1)
    learned = learn_tolerance(HOURLY, reference_of(training), training)
    watch = Watch(HOURLY, reference_of(training), WatchSettings(tolerance=learned))
    stream = days(2000, seed=3)
    stream[:, 1] += 0.5
    step = watch.observe(stream)
    assert step.crossing is not None
    assert step.crossing < 400
    assert watch.findings()[0].column == "calm"


def test_rows_without_order_need_next_to_no_tolerance() -> None:
    training = rows(20_000, seed=1)
    learned = learn_tolerance(COLUMNS, reference_of(training), training)
    # Weak bets first; the strong ones cost so much by themselves that a little more is nothing.
    weak = [abs(v) for a in learned.values() for v in a.get("location", ())[:4]]
    assert max(weak, default=0.0) < 0.02


def test_fewer_rows_than_a_block_teach_nothing() -> None:
    assert learn_tolerance(COLUMNS, rows(500, seed=1), rows(10, seed=2)) == {}
