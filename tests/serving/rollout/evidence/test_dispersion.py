"""Bursty errors: the estimate of phi and what dividing by it does."""

from __future__ import annotations

import json

import numpy as np
import pytest

from serving.errors import DataError, UsageError
from serving.rollout.evidence import (
    Overdispersion,
    RelativeEvidence,
    log_mean,
    phi_of_bursts,
    threshold,
)

ALPHA = 0.05


def _phi(counts: list[int], requests: int = 6000) -> float:
    seen = Overdispersion()
    for e in counts:
        seen = seen.updated(requests, e)
    return seen.phi


def test_independent_events_give_a_phi_near_one() -> None:
    rng = np.random.default_rng(0)
    assert 1.0 <= _phi(rng.binomial(6000, 0.005, 400).tolist()) < 1.3


def test_bursts_of_five_give_a_phi_of_about_five() -> None:
    rng = np.random.default_rng(1)
    assert _phi((5 * rng.poisson(6, 400)).tolist()) == pytest.approx(5.3, abs=1.0)


def test_a_rate_that_drifts_over_the_day_is_no_burst() -> None:
    rng = np.random.default_rng(2)
    rates = 0.005 * (1 + 0.8 * np.sin(np.arange(1440) / 1440 * 2 * np.pi))
    assert _phi(rng.binomial(6000, rates).tolist()) < 1.3


def test_all_events_of_the_first_interval_count_as_one_burst() -> None:
    assert Overdispersion().updated(120, 5).phi == 5.0
    assert Overdispersion().updated(120, 0).phi == 1.0


def test_without_any_event_phi_is_the_declared_one() -> None:
    assert _phi([0, 0, 0]) == 1.0
    assert Overdispersion(floor=5.0).updated(10, 0).updated(10, 0).phi == 5.0


def test_an_interval_without_traffic_says_nothing() -> None:
    seen = Overdispersion().updated(100, 3).updated(100, 4)
    assert seen.updated(0, 0) == seen


def test_bursty_errors_roll_a_healthy_canary_back_at_most_twice_as_often_as_alpha() -> None:
    rng = np.random.default_rng(3)
    plain = divided = 0
    for _ in range(200):
        seen, bursts = RelativeEvidence(), Overdispersion()
        crossed_plain = crossed_divided = False
        for _ in range(40):
            n_c, n_s = 240, 2160
            x, s = (5 * int(rng.poisson(n * 0.005 / 5)) for n in (n_c, n_s))
            seen, bursts = seen.updated(n_c, x, n_s, s), bursts.updated(n_c + n_s, x + s)
            crossed_plain |= seen.log_e_bad >= threshold(ALPHA)
            crossed_divided |= seen.with_phi(bursts.phi).log_e_bad >= threshold(ALPHA)
        plain, divided = plain + crossed_plain, divided + crossed_divided
    assert plain / 200 > 0.25
    assert divided / 200 <= 2 * ALPHA


def test_phi_of_known_bursts_is_the_size_that_a_failure_sees() -> None:
    assert phi_of_bursts([5, 5, 5]) == 5.0
    assert phi_of_bursts([1, 1, 2]) == 1.5
    with pytest.raises(UsageError, match="no burst"):
        phi_of_bursts([0])


def test_comes_back_from_json_as_it_was() -> None:
    seen = Overdispersion(floor=1.5).updated(100, 3).updated(120, 9).updated(80, 0)
    assert Overdispersion.from_json(json.loads(json.dumps(seen.to_json()))) == seen


def test_refuses_more_events_than_requests() -> None:
    with pytest.raises(DataError, match="both arms"):
        Overdispersion().updated(3, 4)


def test_a_mean_of_proofs_counts_those_that_cannot_be() -> None:
    assert log_mean([0.0, -float("inf")]) == pytest.approx(np.log(0.5))
    assert log_mean([-float("inf")] * 2) == -float("inf")
    assert log_mean([800.0, 0.0], [0.5, 0.5]) == pytest.approx(800 + np.log(0.5))
