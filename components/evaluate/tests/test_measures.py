from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from components.evaluate.measures import (
    POINTS,
    Ranking,
    average_precision,
    bootstrap,
    calibration_curve,
    calibration_error,
    pr_curve,
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
    assert roc_auc(ranking, weight) == pytest.approx(
        metrics.roc_auc_score(label, score, sample_weight=weight)
    )
    assert average_precision(ranking, weight) == pytest.approx(
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
        roc_auc(ranking, weight), abs=0.01
    )


def test_calibration_points_sit_on_the_diagonal_for_true_probabilities() -> None:
    rng = np.random.default_rng(0)
    score = rng.random(50_000)
    label = (rng.random(50_000) < score).astype(np.int8)
    points = calibration_curve(label, score, np.ones(50_000))
    assert len(points) == 10
    assert sum(count for _, _, count in points) == 50_000
    assert calibration_error(points) < 0.01
    assert calibration_error(calibration_curve(label, score**3, np.ones(50_000))) > 0.1


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for trial in range(60):
        values = np.random.default_rng(trial).normal(size=400)
        found = bootstrap(
            {"mean": lambda w, v=values: float((w * v).sum() / w.sum())},  # type: ignore[misc]
            np.ones(400),
            100,
            seed=trial,
        )
        covered += found["mean"][0] <= 0 <= found["mean"][1]
    assert covered >= 52
