"""Evidence against stable: what it may never do under the null, and what it finds."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import DataError, UsageError
from serving.rollout.evidence import PSIS, RelativeEvidence, log_mean_power, threshold

ALPHA = 0.05
RUNS = 2000
WEIGHTS = (0.1, 0.25, 0.5, 0.5, 0.05)
RATES = (0.005, 0.03, 0.001, 0.01)

intervals = st.lists(
    st.tuples(st.integers(0, 300), st.floats(0, 1), st.integers(0, 300), st.floats(0, 1)).map(
        lambda t: (t[0], int(t[0] * t[1]), t[2], int(t[2] * t[3]))
    ),
    max_size=6,
)


def _ever(odds_ratio: float, seed: int) -> tuple[float, float]:
    """Share of runs in which bad and good ever cross, with weight and error rate on the move."""
    rng = np.random.default_rng(seed)
    psis = np.array([*PSIS, 2.0])
    bad, good = np.zeros((RUNS, len(PSIS))), np.zeros(RUNS)
    crossed_bad, crossed_good = np.zeros(RUNS, bool), np.zeros(RUNS, bool)
    for look in range(80):
        n_c = rng.binomial(600, WEIGHTS[look % len(WEIGHTS)], RUNS)
        n_s = 600 - n_c
        rate = RATES[look % len(RATES)]
        odds = odds_ratio * rate / (1 - rate)
        x, s = rng.binomial(n_c, odds / (1 + odds)), rng.binomial(n_s, rate)
        mean = log_mean_power(n_c[:, None], n_s[:, None], (x + s)[:, None], psis)
        gains = x[:, None] * np.log(psis) - mean
        bad, good = bad + gains[:, :-1], good - gains[:, -1]
        crossed_bad |= np.logaddexp.reduce(bad, axis=1) - math.log(len(PSIS)) >= threshold(ALPHA)
        crossed_good |= good >= threshold(ALPHA)
    return float(crossed_bad.mean()), float(crossed_good.mean())


def test_a_healthy_canary_is_ever_blamed_with_probability_alpha_at_most() -> None:
    bad, good = _ever(1.0, seed=1)
    assert bad <= ALPHA
    assert good > 0.9


def test_a_better_canary_is_blamed_even_less() -> None:
    bad, _ = _ever(0.7, seed=2)
    assert bad <= 0.01


def test_a_canary_psi_max_times_worse_is_ever_cleared_with_probability_beta_at_most() -> None:
    bad, good = _ever(2.0, seed=3)
    assert good <= ALPHA
    assert bad > 0.95


def test_a_canary_still_worse_is_cleared_even_less() -> None:
    _, good = _ever(3.0, seed=4)
    assert good <= 0.01


@given(intervals)
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_intervals_makes_no_difference(
    counts: list[tuple[int, int, int, int]],
) -> None:
    forth, back = RelativeEvidence(), RelativeEvidence()
    for interval in counts:
        forth = forth.updated(*interval)
    for interval in reversed(counts):
        back = back.updated(*interval)
    assert forth.log_e_bad == pytest.approx(back.log_e_bad, abs=1e-9)
    assert forth.log_e_good == pytest.approx(back.log_e_good, abs=1e-9)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 40), st.floats(1, 9))
@settings(max_examples=60, deadline=None)
def test_more_failures_of_the_canary_never_clear_it(
    n_c: int, n_s: int, e: int, psi_max: float
) -> None:
    fresh = RelativeEvidence(psi_max=psi_max + 0.1)
    possible = [x for x in range(e + 1) if x <= n_c and e - x <= n_s]
    seen = [fresh.updated(n_c, x, n_s, e - x) for x in possible]
    for less, more in itertools.pairwise(seen):
        assert more.log_e_bad > less.log_e_bad
        assert more.log_e_good < less.log_e_good


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 20), st.sampled_from(PSIS))
@settings(max_examples=60, deadline=None)
def test_the_factor_of_an_interval_has_the_expectation_one(
    n_c: int, n_s: int, e: int, psi: float
) -> None:
    e = min(e, n_c + n_s)
    expected = 0.0
    for x in range(max(0, e - n_s), min(n_c, e) + 1):
        chance = math.comb(n_c, x) * math.comb(n_s, e - x) / math.comb(n_c + n_s, e)
        expected += chance * math.exp(
            RelativeEvidence(psis=(psi,)).updated(n_c, x, n_s, e - x).log_e_bad
        )
    assert expected == pytest.approx(1.0, abs=1e-9)


def test_no_data_is_no_evidence() -> None:
    fresh = RelativeEvidence()
    for nothing in ((0, 0, 0, 0), (500, 0, 4500, 0), (500, 5, 0, 0), (0, 0, 4500, 20)):
        seen = fresh.updated(*nothing)
        assert seen == fresh
        assert (seen.log_e_bad, seen.log_e_good) == (0.0, 0.0)


def test_dividing_by_phi_never_turns_no_crossing_into_one() -> None:
    rng = np.random.default_rng(5)
    for _ in range(300):
        logs = tuple(rng.normal(0, 6, len(PSIS)))
        plain = RelativeEvidence(log_bad=logs)
        for phi in (1.0, 1.7, 5.0, 40.0):
            if plain.with_phi(phi).log_e_bad >= threshold(ALPHA):
                assert plain.log_e_bad >= threshold(ALPHA)


def test_comes_back_from_json_as_it_was() -> None:
    seen = RelativeEvidence(psi_max=3.0, psis=(1.5, 4.0), phi=2.5).updated(120, 3, 1080, 5)
    assert RelativeEvidence.from_json(json.loads(json.dumps(seen.to_json()))) == seen


def test_refuses_counts_and_odds_that_cannot_be() -> None:
    with pytest.raises(DataError, match="canary counted 11 events among 10"):
        RelativeEvidence().updated(10, 11, 10, 0)
    with pytest.raises(DataError, match="never negative"):
        RelativeEvidence().updated(10, 0, 10, -1)
    with pytest.raises(UsageError, match="above 1"):
        RelativeEvidence(psi_max=1.0)
    with pytest.raises(UsageError, match="dispersion"):
        RelativeEvidence(phi=0.5)
