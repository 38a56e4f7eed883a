from __future__ import annotations

import numpy as np
import pytest

from components.train.calibration import calibrate, isotonic, log_loss, platt


def drawn(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-odds, labels from sigmoid(0.5 x - 2), weights of 1."""
    rng = np.random.default_rng(seed)
    margin = rng.normal(size=rows) * 2
    label = (rng.random(rows) < 1 / (1 + np.exp(2 - 0.5 * margin))).astype(np.float64)
    return margin, label, np.ones(rows)


def test_platt_finds_the_slope_and_offset_that_made_the_labels() -> None:
    found = platt(*drawn(20_000))
    assert found.slopes[0] == pytest.approx(0.5, abs=0.05)
    assert found.offset == pytest.approx(-2, abs=0.08)


@pytest.mark.parametrize("seed", range(20))
def test_platt_finds_the_line_where_few_positives_lie_far_from_the_rest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label = np.zeros(2000)
    label[: rng.integers(5, 60)] = 1
    margin = rng.normal(rng.uniform(-30, 0), rng.uniform(0.5, 5), 2000) + 12 * label
    found = platt(margin, label, np.ones(2000)).apply(margin)
    rate = np.full(2000, label.mean())
    assert log_loss(found, label, np.ones(2000)) < log_loss(rate, label, np.ones(2000))


@pytest.mark.parametrize("fitted", [platt, isotonic])
def test_calibration_never_turns_the_order_round_nor_ties_rows(fitted: object) -> None:
    label = np.tile([1.0, 0.0, 0.0, 0.0], 50)
    margin = np.tile([-9.0, 9.0, 8.0, 7.0], 50) + np.linspace(0, 0.1, 200)
    found = calibrate(margin, label, np.ones(200), fitted.__name__)  # type: ignore[attr-defined]
    at = found.apply(np.linspace(-12, 12, 100))
    assert (np.diff(at) > 0).all()


def test_isotonic_follows_a_bend_that_a_line_cannot() -> None:
    margin, _, weight = drawn(40_000)
    rng = np.random.default_rng(1)
    chance = np.where(margin < 1, 0.05, 0.6)
    label = (rng.random(len(margin)) < chance).astype(np.float64)
    bent, straight = isotonic(margin, label, weight), platt(margin, label, weight)
    fresh = drawn(10_000, seed=2)[0]
    rates = np.where(fresh < 1, 0.05, 0.6)
    error = [np.abs(c.apply(fresh) - rates).mean() for c in (bent, straight)]
    assert error[0] < 0.05 < error[1]
    assert calibrate(margin, label, weight, "auto").method == "isotonic"


def test_auto_keeps_the_line_where_it_is_as_good_or_positives_are_few() -> None:
    few = drawn(3_000)
    assert few[1].sum() < 1000
    assert calibrate(*few, "auto").method == "platt"


def test_calibrated_scores_are_the_rates_of_weighted_rows() -> None:
    margin, label, weight = drawn(20_000)
    weight = np.where(label == 1, 1.0, 4.0)
    for method in ("platt", "isotonic"):
        found = calibrate(margin, label, weight, method).apply(margin)
        rate = np.average(label, weights=weight)
        assert np.average(found, weights=weight) == pytest.approx(rate, abs=0.01)
        assert log_loss(found, label, weight) < log_loss(np.full(20_000, rate), label, weight)
