"""Shift of scores and decisions against a declared tolerance."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import DataError, UsageError
from serving.rollout.evidence import ShiftEvidence, deciles, rebinned, shift_gains, threshold
from serving.rollout.evidence.shift import BEYOND, WITHIN

RATE = 0.05
EVEN = np.full(10, 0.1)


def _moved(odds_ratio: float) -> npt.NDArray[np.float64]:
    """Even deciles, the last one moved by an odds ratio."""
    top = odds_ratio * 0.1 / (0.9 + odds_ratio * 0.1)
    return np.array([*[(1 - top) / 9] * 9, top])


def _run(odds_ratio: float, seed: int, requests: int, look: int) -> tuple[bool, bool, int]:
    """Whether a shift was ever found, whether none was ever proved, canary requests to the end."""
    rng = np.random.default_rng(seed)
    seen, found, cleared = ShiftEvidence(10), False, False
    sent = 0
    while sent < requests and not found:
        sent += look
        stable = rng.multinomial(9 * look, EVEN)
        canary = rng.multinomial(look, _moved(odds_ratio))
        seen = seen.updated(canary.tolist(), stable.tolist())
        found |= seen.log_e >= threshold(RATE)
        cleared |= seen.log_e_good >= threshold(RATE)
    return found, cleared, sent


def test_an_honest_retrain_passes_at_a_hundred_thousand_requests() -> None:
    # 10 % to 11.3 %: an odds ratio of 1.15, which a test for equality finds in a tenth of these.
    for seed in range(5):
        found, cleared, sent = _run(1.15, seed, requests=100_000, look=2500)
        assert (found, cleared, sent) == (False, True, 100_000)


def test_a_shift_past_the_tolerance_is_found_and_never_cleared() -> None:
    for seed in range(5):
        found, cleared, sent = _run(2.25, seed, requests=20_000, look=250)
        assert (found, cleared) == (True, False)
        assert sent <= 3000


def test_a_bin_that_shrinks_past_the_tolerance_is_found_too() -> None:
    found, cleared, _ = _run(0.3, 1, requests=20_000, look=250)
    assert (found, cleared) == (True, False)


def _ever(odds_ratio: float, runs: int, looks: int, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    beyond, within = np.zeros((runs, 20, len(BEYOND))), np.zeros((runs, 20, len(WITHIN)))
    found, cleared = np.zeros(runs, bool), np.zeros(runs, bool)
    for _ in range(looks):
        gains = shift_gains(
            rng.multinomial(100, _moved(odds_ratio), runs), rng.multinomial(400, EVEN, runs), 1.5
        )
        beyond, within = beyond + gains[0], within + gains[1]
        found |= np.log(np.exp(beyond).mean(axis=(1, 2))) >= threshold(RATE)
        cleared |= np.log(np.exp(within).mean(axis=2)).min(axis=1) >= threshold(RATE)
    return float(found.mean()), float(cleared.mean())


def test_at_the_tolerance_itself_either_verdict_is_rare() -> None:
    found, cleared = _ever(1.5, runs=400, looks=40, seed=7)
    # At the bound both nulls hold; 2.2 points are two standard errors of 400 runs.
    assert found <= RATE + 0.022
    assert cleared <= RATE + 0.022


def test_runs_side_by_side_equal_single_evidence() -> None:
    rng = np.random.default_rng(3)
    canary, stable = rng.multinomial(50, EVEN, 4), rng.multinomial(300, EVEN, 4)
    beyond, within = shift_gains(canary, stable, 1.5)
    for run in range(4):
        one = ShiftEvidence(10).updated(canary[run].tolist(), stable[run].tolist())
        assert np.array(one.log_beyond) == pytest.approx(beyond[run], abs=1e-12)
        assert np.array(one.log_within) == pytest.approx(within[run], abs=1e-12)


@given(st.lists(st.tuples(*[st.integers(0, 30)] * 6), max_size=5))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_intervals_makes_no_difference(counts: list[tuple[int, ...]]) -> None:
    forth, back = ShiftEvidence(3), ShiftEvidence(3)
    for row in counts:
        forth = forth.updated(row[:3], row[3:])
    for row in reversed(counts):
        back = back.updated(row[:3], row[3:])
    assert forth.log_e == pytest.approx(back.log_e, abs=1e-9)
    assert forth.log_e_good == pytest.approx(back.log_e_good, abs=1e-9)


def test_no_data_is_no_evidence() -> None:
    for canary, stable in (((0, 0), (5, 5)), ((5, 5), (0, 0))):
        seen = ShiftEvidence(2).updated(canary, stable)
        assert (seen.log_e, seen.log_e_good) == (0.0, 0.0)


def test_comes_back_from_json_as_it_was() -> None:
    seen = ShiftEvidence(2, tolerance=2.0, phi=1.5).updated((3, 9), (50, 70))
    assert ShiftEvidence.from_json(json.loads(json.dumps(seen.to_json()))) == seen


def test_refuses_bins_of_another_run() -> None:
    with pytest.raises(DataError, match="do not fit the 3 bins"):
        ShiftEvidence(3).updated((1, 2), (1, 2))
    with pytest.raises(UsageError, match="odds ratio above 1"):
        ShiftEvidence(10, tolerance=1.0)


def test_deciles_cut_the_buckets_into_about_equal_parts() -> None:
    edges = tuple(i / 100 for i in range(1, 100))
    cuts = deciles(edges, [7] * 100)
    assert cuts == pytest.approx([i / 10 for i in range(1, 10)])
    assert rebinned(edges, [7] * 100, cuts) == (70,) * 10


def test_a_bucket_that_holds_most_scores_stays_whole() -> None:
    cuts = deciles((0.1, 0.2, 0.3), [970, 10, 10, 10])
    assert cuts == (0.1,)
    assert rebinned((0.1, 0.2, 0.3), [1, 2, 3, 4], cuts) == (1, 9)


def test_every_score_lands_in_one_bin() -> None:
    rng = np.random.default_rng(0)
    edges = tuple(np.sort(rng.random(60)).tolist())
    counts = rng.integers(0, 50, 61).tolist()
    cuts = deciles(edges, counts)
    bins = rebinned(edges, counts, cuts)
    assert sum(bins) == sum(counts)
    assert len(bins) == len(cuts) + 1 <= 10
    assert min(bins) > 0


def test_refuses_counts_that_belong_to_other_buckets() -> None:
    with pytest.raises(DataError, match="do not belong"):
        deciles((0.1, 0.2), (1, 2))
    with pytest.raises(DataError, match="no edge of the score buckets"):
        rebinned((0.1, 0.2), (1, 2, 3), (0.15,))
    with pytest.raises(DataError, match="answered nothing yet"):
        deciles((0.1, 0.2), (0, 0, 0))
