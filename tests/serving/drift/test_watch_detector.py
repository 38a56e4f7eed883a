from __future__ import annotations

import io
import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from serving.drift.cells import BLOCK
from serving.drift.encoding import Column, Matrix
from serving.drift.watch import Watch, WatchSettings
from serving.errors import DataError
from tests.serving.drift.rows import COLUMNS, KIND, rows

REFERENCE = rows(10_000, seed=1)


def watch(run_length: float = 1_000_000) -> Watch:
    return Watch(COLUMNS, REFERENCE, WatchSettings(run_length))


def moved(change: Callable[[Matrix], None], seed: int = 5, count: int = 3000) -> Matrix:
    stream = rows(count, seed)
    change(stream)
    return stream


def add(column: int, shift: float) -> Callable[[Matrix], None]:
    def change(stream: Matrix) -> None:
        stream[:, column] += shift

    return change


def scale(column: int, factor: float) -> Callable[[Matrix], None]:
    def change(stream: Matrix) -> None:
        stream[:, column] *= factor

    return change


def put(column: int, value: float, every: int) -> Callable[[Matrix], None]:
    def change(stream: Matrix) -> None:
        stream[::every, column] = value

    return change


def two_heaps(stream: Matrix) -> None:
    stream[:, 3] = np.sign(stream[:, 3]) * np.abs(stream[:, 3]) ** 0.2


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_is_silent_on_clean_rows_far_beyond_the_run_length_it_promises(correlation: float) -> None:
    reference = rows(10_000, 1, correlation)
    quiet = Watch(COLUMNS, reference, WatchSettings(20_000))
    crossings = 0
    for seed in range(20):
        crossings += quiet.observe(rows(10_000, 100 + seed, correlation)).crossed
        if quiet.evidence > quiet.threshold:
            quiet.restart()
    # 200,000 rows at a mean run length of at least 20,000: more than 10 are not to be expected.
    assert crossings <= 2


@pytest.mark.parametrize(
    ("change", "rows_at_most", "column", "aspect", "direction"),
    [
        (add(2, 0.5), 400, "x2", "location", "higher"),
        (add(2, -0.25), 1200, "x2", "location", "lower"),
        (scale(1, 1.5), 400, "x1", "scale", "wider"),
        (scale(1, 0.6), 600, "x1", "scale", "narrower"),
        (two_heaps, 600, "x3", "shape", "other"),
        (put(0, math.nan, 20), 400, "x0", "missing", "more"),
        (put(4, math.inf, 50), 1000, "x4", "range", "higher"),
        (put(4, -1e9, 50), 1000, "x4", "range", "lower"),
        (put(KIND, -1.0, 50), 1000, "kind", "unseen", "more"),
        (put(KIND, 17.0, 50), 1000, "kind", "unseen", "more"),
        (put(KIND, 3.0, 20), 1000, "kind", "rare", "more d"),
        (put(KIND, 1.0, 4), 1000, "kind", "category", "more b"),
        (put(7, 0.9, 10), 1000, "score", "location", "higher"),
    ],
)
def test_finds_and_names_each_kind_of_drift(
    change: Callable[[Matrix], None],
    rows_at_most: int,
    column: str,
    aspect: str,
    direction: str,
) -> None:
    watching = watch()
    assert not watching.observe(rows(2000, seed=4)).crossed
    step = watching.observe(moved(change))
    assert step.crossing is not None
    assert step.crossing < rows_at_most
    first = watching.findings()[0]
    assert first.column == column
    named = [f for f in watching.findings() if f.column == column and f.aspect == aspect]
    assert [f.direction for f in named] == [direction]
    assert named[0].evidence > watching.threshold


def test_several_small_shifts_add_up_and_come_first() -> None:
    one, three = watch(), watch()
    alone, together = moved(add(0, 0.25)), moved(add(0, 0.25))
    together[:, 1] += 0.25
    together[:, 2] -= 0.25
    first, joint = one.observe(alone), three.observe(together)
    assert first.crossing is not None
    assert joint.crossing is not None
    assert joint.crossing < 0.8 * first.crossing
    names = [f.column for f in three.findings() if f.aspect == "location"]
    assert set(names[:3]) == {"x0", "x1", "x2"}


@pytest.mark.parametrize("sizes", [(1,), (3, 50, 7), (31, 33), (5000,)])
def test_batches_do_not_matter(sizes: tuple[int, ...]) -> None:
    stream = moved(add(2, 0.5), count=600)
    whole, parts = watch(), watch()
    expected = whole.observe(stream)
    cuts = [0]
    while cuts[-1] < len(stream):
        cuts.append(cuts[-1] + sizes[len(cuts) % len(sizes)])
    crossing = None
    for start, end in pairwise(cuts):
        step = parts.observe(stream[start:end])
        if crossing is None and step.crossing is not None:
            crossing = start + step.crossing
    assert crossing == expected.crossing
    assert crossing is not None
    assert (crossing + 1) % BLOCK == 0
    assert parts.evidence == pytest.approx(expected.evidence, rel=1e-9)


def test_the_run_length_may_change_while_it_runs() -> None:
    watching = watch(1e60)
    step = watching.observe(moved(add(2, 0.5), count=320))
    assert not step.crossed
    watching.average_run_length = math.exp(step.evidence) / 2
    assert watching.observe(moved(add(2, 0.5), seed=6, count=BLOCK)).crossed


def test_after_a_restart_a_shift_that_lasts_crosses_again_and_one_that_is_over_does_not() -> None:
    watching = watch()
    assert watching.observe(moved(add(2, 0.5))).crossed
    watching.restart()
    assert watching.evidence == -math.inf
    assert watching.observe(moved(add(2, 0.5), seed=7)).crossed
    watching.restart()
    assert not watching.observe(rows(3000, seed=8)).crossed


def test_the_references_own_sampling_error_does_not_become_drift() -> None:
    """500 rows miss the mean by 0.045: for ever, however many rows come."""
    small = Watch(COLUMNS, rows(500, seed=11), WatchSettings(100_000))
    assert not any(small.observe(rows(10_000, seed)).crossed for seed in range(50, 60))


@pytest.mark.parametrize(
    "reference",
    [
        np.full((200, 1), np.nan),
        np.zeros((200, 1)),
        (np.arange(200) % 2.0)[:, None],
        np.where(np.arange(200) % 2, np.nan, 1.0)[:, None],
        np.array([[math.inf], [-math.inf], [0.0]] * 50),
        np.ones((1, 1)),
    ],
)
@pytest.mark.parametrize("kind", ["number", "category"])
def test_no_column_is_too_odd_to_be_watched(reference: Matrix, kind: str) -> None:
    column = Column("odd", "number") if kind == "number" else Column("odd", "category")
    odd = Watch((column,), reference, WatchSettings())
    step = odd.observe(np.repeat(reference, 5, axis=0))
    assert not step.crossed
    odd.observe(np.array([[np.nan], [np.inf], [-np.inf], [5.0], [-1.0], [1e308]] * 100))
    assert not math.isnan(odd.evidence)
    assert all(not math.isnan(f.evidence) for f in odd.findings())


def test_a_state_goes_on_where_it_was_and_another_references_is_refused() -> None:
    stream = moved(add(2, 0.5), count=700)
    one, other = watch(), watch()
    one.observe(stream[:333])
    packed = io.BytesIO()
    np.savez(packed, **one.arrays())  # type: ignore[arg-type]
    packed.seek(0)
    with np.load(packed, allow_pickle=False) as archive:
        other.load(dict(archive))
    assert other.observe(stream[333:]) is not None
    one.observe(stream[333:])
    assert (other.evidence, other.rows) == (one.evidence, one.rows)
    stranger = Watch(COLUMNS, rows(10_000, seed=2), WatchSettings())
    with pytest.raises(DataError, match="another reference or version"):
        stranger.load(one.arrays())
    for damage, named in (({"won": np.zeros(3)}, "'won'"), ({"recent": None}, "'recent'")):
        with pytest.raises(DataError, match=named):
            other.load({**one.arrays(), **damage})  # type: ignore[dict-item]
    with pytest.raises(DataError, match="not finite"):
        other.load({**one.arrays(), "won": one.arrays()["won"] * np.nan})
    assert other.evidence == one.evidence


def test_refuses_a_reference_without_rows_and_a_tolerance_of_other_bets() -> None:
    with pytest.raises(DataError, match="has no rows"):
        Watch(COLUMNS, REFERENCE[:0], WatchSettings())
    with pytest.raises(DataError, match="'x0' has 2 values for 'location', but 8 bets"):
        Watch(COLUMNS, REFERENCE, WatchSettings(tolerance={"x0": {"location": (0.1, 0.2)}}))
