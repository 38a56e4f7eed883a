"""The promotion's proof is one e-process over two nulls: beta is exact at their common boundary."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.rollout.gate import Rate
from benchmarks.rollout.traffic import MAX_RATE
from serving.rollout.evidence import log_mean, threshold
from serving.rollout.gate.rates import AGAINST_SLO, AGAINST_STABLE

RUNS, LOOKS, REQUESTS = 2000, 120, 1200
BETA = 0.05


@pytest.mark.parametrize("swing", [0.0, 0.8])
def test_a_canary_bad_in_both_ways_is_ever_proven_good_with_beta_at_most(swing: float) -> None:
    """Odds psi_max = 2 times stable's and the SLO's maximum rate, weights and rates changing."""
    rng, none = np.random.default_rng(3), np.ones(RUNS)
    proof, proven = Rate(RUNS, REQUESTS), np.zeros(RUNS, bool)
    for look in range(LOOKS):
        # The SLO's null speaks of the canary's rate, so it may only rise above the maximum.
        rate = MAX_RATE * (1 + swing * abs(np.sin(look / 9)))
        odds = rate / (1 - rate) / 2
        # The split answers to the evidence, as the gate's steps do.
        share = np.where(proof.log_good(none, np.ones(RUNS, bool)) > 1, 0.5, 0.1)
        n_c = rng.binomial(REQUESTS, share)
        n_s = REQUESTS - n_c
        proof.add(n_c, rng.binomial(n_c, rate), n_s, rng.binomial(n_s, odds / (1 + odds)))
        proven |= proof.log_good(none, np.ones(RUNS, bool)) >= threshold(BETA)
    # 5 % of 2,000 runs, and three standard deviations of the luck.
    assert proven.sum() <= RUNS * BETA + 3 * np.sqrt(RUNS * BETA * (1 - BETA))


def test_the_shares_of_both_proofs_are_fixed_and_make_a_whole() -> None:
    assert AGAINST_STABLE + AGAINST_SLO == 1
    # Without a failure the SLO's proof alone must carry it: no more than ln(1/0.75) later.
    clean = log_mean((0.0, 10.0), (AGAINST_STABLE, AGAINST_SLO))
    assert clean == pytest.approx(10 + np.log(0.75), abs=1e-3)
