"""Evidence against the SLO alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import DataError, UsageError
from serving.rollout.evidence import AbsoluteEvidence, threshold

BETA = 0.05


def _ever(rates: list[float], seed: int) -> tuple[float, float]:
    """Share of 400 runs of 60 looks at which good and bad ever cross; p_max is 1 %."""
    rng = np.random.default_rng(seed)
    good = bad = 0
    for _ in range(400):
        seen = AbsoluteEvidence(0.01)
        was_good = was_bad = False
        for look in range(60):
            n = int(rng.integers(0, 200))
            seen = seen.updated(n, int(rng.binomial(n, rates[look % len(rates)])))
            was_good |= seen.log_e_good >= threshold(BETA)
            was_bad |= seen.log_e_bad >= threshold(BETA)
        good, bad = good + was_good, bad + was_bad
    return good / 400, bad / 400


def test_about_300_requests_without_a_failure_prove_a_maximum_of_one_percent() -> None:
    needed = next(
        n
        for n in range(1, 1000)
        if AbsoluteEvidence(0.01).updated(n, 0).log_e_good >= threshold(BETA)
    )
    assert 299 <= needed <= 345


def test_a_canary_at_the_maximum_is_ever_cleared_with_probability_beta_at_most() -> None:
    good, bad = _ever([0.01], seed=1)
    # 400 runs: two standard errors of a true 5 % are 2.2 points.
    assert good <= BETA + 0.022
    assert bad <= BETA + 0.022


def test_a_rate_that_changes_above_the_maximum_is_cleared_no_more_often() -> None:
    good, _ = _ever([0.01, 0.05, 0.012], seed=2)
    assert good <= 0.02


def test_a_canary_well_inside_the_maximum_is_cleared_and_one_far_outside_blamed() -> None:
    good, bad = _ever([0.003], seed=3)
    assert good > 0.95
    assert bad <= 0.01
    good, bad = _ever([0.03], seed=4)
    assert good <= 0.01
    assert bad > 0.95


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0, 1)), max_size=6))
@settings(max_examples=60, deadline=None)
def test_only_the_totals_count_not_how_they_were_cut_into_intervals(
    cut: list[tuple[int, float]],
) -> None:
    counts = [(n, int(n * part)) for n, part in cut]
    pieces = AbsoluteEvidence(0.02)
    for n, x in counts:
        pieces = pieces.updated(n, x)
    whole = AbsoluteEvidence(0.02).updated(sum(n for n, _ in counts), sum(x for _, x in counts))
    assert pieces.log_e_good == pytest.approx(whole.log_e_good, abs=1e-6)
    assert pieces.log_e_bad == pytest.approx(whole.log_e_bad, abs=1e-6)


def test_no_data_is_no_evidence() -> None:
    assert AbsoluteEvidence(0.01).updated(0, 0).log_e_good == 0.0


def test_comes_back_from_json_as_it_was_after_a_failure_too() -> None:
    for seen in (AbsoluteEvidence(0.01), AbsoluteEvidence(0.01, phi=3.0).updated(100, 2)):
        assert AbsoluteEvidence.from_json(json.loads(json.dumps(seen.to_json()))) == seen


def test_refuses_a_maximum_that_is_no_rate_and_impossible_counts() -> None:
    with pytest.raises(UsageError, match="not a rate"):
        AbsoluteEvidence(1.0)
    with pytest.raises(DataError, match="events among"):
        AbsoluteEvidence(0.01).updated(3, 4)
