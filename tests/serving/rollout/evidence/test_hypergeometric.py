"""ln E[psi^X] against scipy, exact fractions and published identities."""

from __future__ import annotations

import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from serving.rollout.evidence import PSIS, log_mean_power


def _exact(n_c: int, n_s: int, e: int, psi: Fraction) -> float:
    """By the definition, in whole numbers."""
    terms = range(max(0, e - n_s), min(n_c, e) + 1)
    p, q = psi.numerator, psi.denominator
    z = sum(math.comb(n_c, j) * math.comb(n_s, e - j) * p**j * q ** (e - j) for j in terms)
    ratio = Fraction(z, math.comb(n_c + n_s, e) * q**e)
    shift = ratio.numerator.bit_length() - ratio.denominator.bit_length()
    return shift * math.log(2) + math.log(float(ratio / Fraction(2) ** shift))


@given(
    n_c=st.integers(0, 150),
    n_s=st.integers(0, 300),
    part=st.fractions(0, 1),
    psi=st.fractions(Fraction(1, 20), 20, max_denominator=20),
)
@settings(max_examples=150, deadline=None)
def test_equals_the_sum_in_whole_numbers(n_c: int, n_s: int, part: Fraction, psi: Fraction) -> None:
    e = math.floor(part * (n_c + n_s))
    expected = _exact(n_c, n_s, e, psi)
    one = float(log_mean_power(n_c, n_s, e, float(psi)))
    assert one == pytest.approx(expected, rel=1e-13, abs=1e-13)
    # Several odds ratios at once, as a look asks for them.
    several = log_mean_power(n_c, n_s, e, [float(psi), 1.0, 2.0])
    assert several[0] == pytest.approx(expected, rel=1e-13, abs=1e-13)
    assert several[1] == 0.0


def test_few_failures_among_very_many_requests_stay_within_the_range_of_floats() -> None:
    odds = [0.1, 2.0, 25.0]
    for counts in ((10**6, 100, 100), (10**8, 3 * 10**8, 120), (90, 10**9, 128), (50, 60, 110)):
        alone = [float(log_mean_power(*counts, psi)) for psi in odds]
        assert log_mean_power(*counts, odds).tolist() == pytest.approx(alone, rel=1e-12)


def test_intervals_and_runs_side_by_side_keep_their_shape() -> None:
    n_c, e = np.array([[[30]], [[70]]]), np.array([[[3], [5]], [[0], [40]]])
    found = log_mean_power(n_c, 100 - n_c, e, np.array([1.5, 3.0]))
    assert found.shape == (2, 2, 2)
    assert found[1, 1].tolist() == pytest.approx(
        [float(log_mean_power(70, 30, 40, psi)) for psi in (1.5, 3.0)], rel=1e-12
    )


@pytest.mark.parametrize("psi", [0.3, 1.25, 2.0, 10.0])
@pytest.mark.parametrize(
    ("n_c", "n_s", "e"), [(12, 108, 1), (1200, 10800, 60), (500, 500, 900), (30000, 270000, 1500)]
)
def test_likelihood_ratio_equals_scipys_noncentral_law(
    n_c: int, n_s: int, e: int, psi: float
) -> None:
    law, null = (stats.nchypergeom_fisher(n_c + n_s, n_c, e, odds) for odds in (psi, 1.0))
    for x in {int(null.mean()), min(n_c, e, int(law.mean()) + 2)}:
        if null.pmf(x) < 1e-280:
            continue  # scipy underflows there
        expected = law.logpmf(x) - null.logpmf(x)
        ours = x * math.log(psi) - float(log_mean_power(n_c, n_s, e, psi))
        # scipy's own pmf is good to about 1e-8 here.
        assert ours == pytest.approx(expected, abs=2e-7)


def test_stays_exact_for_a_hundred_million_requests() -> None:
    # E[psi^X] of the mirrored question must agree: the requests that did not fail.
    n, e = 10**8, 2_000_000
    for psi in PSIS:
        failed = float(log_mean_power(n, 3 * n, e, psi))
        answered = float(log_mean_power(n, 3 * n, 4 * n - e, 1 / psi)) + n * math.log(psi)
        assert failed == pytest.approx(answered, abs=1e-6)
    # With rare failures the law is nearly binomial: ln(1 + share (psi - 1)) per failure.
    rare = float(log_mean_power(n, 3 * n, 1000, 2.0))
    assert rare == pytest.approx(1000 * math.log(1.25), rel=1e-5)


def test_a_truncated_sum_equals_the_full_one() -> None:
    n_c, n_s, e = 40_000, 160_000, 20_000
    j = np.arange(0, e)
    steps = np.log(2.0 * (n_c - j) * (e - j) / ((j + 1.0) * (n_s - e + j + 1.0)))
    full = np.concatenate([[0.0], np.cumsum(steps)])
    central = np.concatenate([[0.0], np.cumsum(steps - math.log(2.0))])
    expected = np.logaddexp.reduce(full) - np.logaddexp.reduce(central)
    assert float(log_mean_power(n_c, n_s, e, 2.0)) == pytest.approx(float(expected), abs=1e-9)


def test_is_certain_where_the_canary_has_all_failures_or_none() -> None:
    assert float(log_mean_power(10, 5, 15, 3.0)) == pytest.approx(10 * math.log(3))
    assert float(log_mean_power(0, 5, 3, 3.0)) == 0.0
    assert float(log_mean_power(7, 5, 0, 3.0)) == 0.0


def test_mixed_sizes_in_one_call_equal_single_calls() -> None:
    n_c, n_s, e = [3, 2000, 0, 50], [40, 90, 7, 5_000_000], [5, 80, 7, 900]
    together = log_mean_power(n_c, n_s, e, 3.0)
    alone = [float(log_mean_power(*row, 3.0)) for row in zip(n_c, n_s, e, strict=True)]
    assert together.tolist() == pytest.approx(alone, abs=1e-12)


def test_one_look_over_fifty_metrics_of_ten_thousand_events_takes_under_50_ms() -> None:
    odds = np.array([*PSIS, 2.0])

    def look() -> float:
        started = time.perf_counter()
        for metric in range(50):
            log_mean_power(200_000 + metric, 1_800_000, 10_000, odds)
        return time.perf_counter() - started

    assert min(look() for _ in range(5)) < 0.05
