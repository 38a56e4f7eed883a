from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from components.evaluate.calibration import Groups
from components.evaluate.measures import (
    POINTS,
    Ranking,
    average_precision,
    pr_curve,
    precision_at_capacity,
    recall_at_fpr,
    roc_auc,
    roc_curve,
)


@pytest.fixture(params=[None, 1], ids=["no ties", "many ties"])
def judged(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    label = (rng.random(3000) < 0.05).astype(np.int8)
    score = 1 / (1 + np.exp(-(rng.normal(size=3000) + 2 * label - 3)))
    weight = np.where(label == 1, 1.0, rng.choice([0.0, 3.0], 3000))
    return label, score if request.param is None else score.round(request.param), weight


def test_weighted_measures_equal_scikit_learns(
    judged: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    label, score, weight = judged
    ranking = Ranking.of(label, score)
    assert roc_auc(ranking.hits(weight)) == pytest.approx(
        metrics.roc_auc_score(label, score, sample_weight=weight)
    )
    assert average_precision(ranking.hits(weight)) == pytest.approx(
        metrics.average_precision_score(label, score, sample_weight=weight)
    )


def test_curves_are_short_monotone_and_keep_their_ends(
    judged: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    label, score, weight = judged
    ranking = Ranking.of(label, score)
    roc, thresholds = roc_curve(ranking, weight)
    points = np.array(roc)
    assert len(points) == len(thresholds) <= POINTS
    assert points[0].tolist() == [0, 0]
    assert points[-1].tolist() == [1, 1]
    assert (np.diff(points, axis=0) >= 0).all()
    assert (np.diff(thresholds) <= 0).all()
    recall = np.array(pr_curve(ranking, weight))[:, 0]
    assert len(recall) <= POINTS
    assert recall[-1] == 1
    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(
        roc_auc(ranking.hits(weight)), abs=0.01
    )


def test_recall_at_a_false_positive_rate_equals_scikit_learns_curve(
    judged: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    label, score, weight = judged
    false, true, _ = metrics.roc_curve(label, score, sample_weight=weight, drop_intermediate=False)
    hits = Ranking.of(label, score).hits(weight)
    for rate in (0.001, 0.01, 0.2):
        assert recall_at_fpr(hits, rate) == pytest.approx(np.interp(rate, false, true))


def test_precision_at_the_review_capacity_counts_tied_rows_by_lot() -> None:
    label = np.array([1, 0, 1, 0, 0, 0], dtype=np.int8)
    score = np.array([0.9, 0.5, 0.5, 0.5, 0.5, 0.1])
    hits = Ranking.of(label, score).hits(np.ones(6))
    assert precision_at_capacity(hits, 1 / 6) == pytest.approx(1.0)
    assert precision_at_capacity(hits, 3 / 6) == pytest.approx((1 + 2 / 4) / 3)
    heavy = Ranking.of(label, score).hits(np.array([1.0, 3, 1, 3, 3, 3]))
    assert precision_at_capacity(heavy, 1.0) == pytest.approx(2 / 14)


def test_calibration_points_sit_on_the_diagonal_for_true_probabilities() -> None:
    rng = np.random.default_rng(0)
    score = rng.random(50_000)
    label = (rng.random(50_000) < score).astype(np.int8)
    weight = rng.choice([0.0, 1.0, 4.0], 50_000)
    honest, bent = Groups.of(label, score, weight), Groups.of(label, score**3, weight)
    assert len(honest.curve(weight)) == 10
    assert sum(count for _, _, count in honest.curve(weight)) == 50_000
    assert honest.error(weight) < 0.012
    assert bent.error(weight) > 0.1
