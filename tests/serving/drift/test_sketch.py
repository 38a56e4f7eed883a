from __future__ import annotations

import io

import numpy as np
import pytest

from serving.drift.encoding import Column
from serving.drift.sketch import Sketch
from serving.drift.watch import Watch, WatchSettings
from serving.errors import DataError
from tests.serving.drift.rows import COLUMNS, KIND, rows

REFERENCE = rows(5000, seed=1)


def sketch() -> Sketch:
    return Sketch.for_reference(COLUMNS, REFERENCE)


def test_counts_do_not_depend_on_batches_or_on_who_counted() -> None:
    stream = rows(1000, seed=2)
    whole, parts = sketch(), (sketch(), sketch())
    whole.add(stream)
    for i, part in enumerate(np.array_split(stream, 7)):
        parts[i % 2].add(part)
    parts[0].merge(parts[1])
    np.testing.assert_array_equal(parts[0].counts, whole.counts)
    assert parts[0].rows == 1000


def test_takes_the_counts_that_a_watch_made() -> None:
    stream = rows(777, seed=2)
    whole, watched = sketch(), sketch()
    whole.add(stream)
    watch = Watch(COLUMNS, REFERENCE, WatchSettings())
    for part in np.array_split(stream, 5):
        watched.add_counts(watch.observe(part).counts)
    np.testing.assert_array_equal(watched.counts, whole.counts)


def test_equal_distributions_are_near_and_different_ones_far() -> None:
    clean, moved = sketch(), sketch()
    stream = rows(5000, seed=2)
    clean.add(stream)
    stream[:, 0] += 1.0
    stream[:2000, KIND] = 0.0
    moved.add(stream)
    for name in ("x0", "kind"):
        assert clean.psi(name) < 0.02
        assert clean.js(name) < 0.05
    # Deciles of a unit normal moved by one: 1.0 in the limit of many bins.
    assert 0.7 < moved.psi("x0") < 1.3
    assert 0.3 < moved.js("x0") < 1.0
    assert moved.psi("kind") > 0.1
    assert moved.psi("x1") < 0.02


def test_psi_and_js_have_their_textbook_values() -> None:
    column = (Column("kind", "category", categories=("a", "b")),)
    pair = Sketch.for_reference(column, np.repeat([0.0, 1.0], 50_000)[:, None])
    pair.add(np.repeat([0.0, 1.0], [90_000, 10_000])[:, None])
    assert pair.psi("kind") == pytest.approx(0.4 * np.log(1.8) - 0.4 * np.log(0.2), rel=1e-2)
    middle = np.array([0.7, 0.3])
    p, q = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    divergence = (p * np.log2(p / middle)).sum() / 2 + (q * np.log2(q / middle)).sum() / 2
    assert pair.js("kind") == pytest.approx(np.sqrt(divergence), rel=1e-2)


def test_missing_unseen_and_values_beyond_the_reference_have_cells_of_their_own() -> None:
    stream = rows(1000, seed=2)
    stream[:100, 0] = np.nan
    stream[:50, KIND] = -1.0
    stream[:30, 1] = np.inf
    stream[30:50, 1] = -1e300
    counted = sketch()
    counted.add(stream)
    assert counted.missing_ratio("x0") == 0.1
    assert counted.missing_ratio("x1") == 0.0
    assert counted.unseen_ratio("kind") == 0.05
    assert counted.unseen_ratio("x1") == pytest.approx(0.05, abs=0.002)
    shares = {share.label: share for share in counted.shares("kind")}
    assert set(shares) == {"(unseen)", "a", "b", "c", "d", "(beyond)", "(missing)"}
    assert shares["(unseen)"].stream == 0.05
    assert sum(share.reference for share in shares.values()) == pytest.approx(1)


def test_says_nothing_before_the_first_row() -> None:
    empty = sketch()
    assert (empty.rows, empty.psi("x0"), empty.js("kind")) == (0, 0.0, 0.0)


@pytest.mark.parametrize("column", [np.full(100, np.nan), np.zeros(100), np.arange(100) % 2.0])
def test_columns_of_few_values_and_of_none_are_counted(column: np.ndarray) -> None:
    few = Sketch.for_reference((Column("few", "number"),), column[:, None])
    few.add(column[:, None])
    assert few.psi("few") == pytest.approx(0, abs=1e-9)
    few.clear()
    few.add(np.full((100, 1), 7.0))
    assert few.psi("few") > 1


def test_survives_an_npz_without_pickles_and_refuses_another_references() -> None:
    counted, again = sketch(), sketch()
    counted.add(rows(500, seed=3))
    packed = io.BytesIO()
    np.savez(packed, **counted.arrays())  # type: ignore[arg-type]
    packed.seek(0)
    with np.load(packed, allow_pickle=False) as archive:
        again.load(dict(archive))
    np.testing.assert_array_equal(again.counts, counted.counts)
    other = Sketch.for_reference(COLUMNS, rows(5000, seed=9))
    with pytest.raises(DataError, match="another reference"):
        other.load(counted.arrays())
    with pytest.raises(DataError, match="different references"):
        other.merge(counted)
    with pytest.raises(DataError, match="damaged"):
        again.load({**counted.arrays(), "counts": -counted.counts})
