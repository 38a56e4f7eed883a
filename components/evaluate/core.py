"""How good the ONNX model is on the test slice, next to a plain baseline."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.checked import Checked, Rows, read_checked
from components.evaluate.baseline import logistic_scores
from components.evaluate.measures import (
    Floats,
    Ranking,
    average_precision,
    bootstrap,
    calibration_curve,
    calibration_error,
    pr_curve,
    roc_auc,
    roc_curve,
)
from components.files import write_bytes, write_json
from components.scoring import model_scores, open_model
from serving.bundle import Contract
from serving.policy import DECISIONS, decide

FORMAT = "seatrial.metrics/1"
Scores = NDArray[np.floating[Any]]


def run(
    *,
    checked: Path,
    model: Path,
    evaluation: Path,
    scored: Path,
    draws: int = 200,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures the ONNX model on the test slice.

    checked: folder that the validate step wrote.
    model: folder that the export step wrote.
    evaluation: folder to write; gets metrics.json.
    scored: .npz to write, the held-out rows in time order with their score, for the drift step.
    draws: bootstrap resamples behind each interval.
    seed: seed of the resamples.

    Returns what it wrote to metrics.json. Raises FileError.
    """
    table = read_checked(checked)
    held_out = table.held_out()
    score = model_scores(open_model(model / "model.onnx"), held_out.columns)
    metrics = measure(table, score[table.counts["validation"] :], draws, seed)
    write_bytes(scored, _packed(held_out, score))
    write_json(evaluation / "metrics.json", metrics)
    return metrics


def measure(table: Checked, score: Scores, draws: int, seed: int) -> dict[str, Any]:
    """metrics.json for the scores of the test slice, [rows]. All but row counts is weighted."""
    fitting = table.rows.take(slice(0, table.counts["train"] + table.counts["validation"]))
    test = table.part("test")
    ranking = Ranking.of(test.label, score)
    plain = logistic_scores(table.contract, fitting, test)
    baseline = Ranking.of(test.label, plain)
    measures = {
        "roc_auc": partial(roc_auc, ranking),
        "average_precision": partial(average_precision, ranking),
    }

    def gain(weight: Floats) -> float:
        return average_precision(ranking, weight) - average_precision(baseline, weight)

    calibration = calibration_curve(test.label, score, test.weight)
    roc, thresholds = roc_curve(ranking, test.weight)
    share = float((test.weight * test.label).sum() / test.weight.sum())
    return {
        "format": FORMAT,
        "rows": table.counts,
        "metrics": {
            **{name: measured(test.weight) for name, measured in measures.items()},
            "log_loss": _log_loss(test, score),
            "calibration_error": calibration_error(calibration),
            "positive_share": share,
        },
        "intervals": bootstrap(
            {**measures, "average_precision_gain": gain}, test.weight, draws, seed
        ),
        "baseline": {
            "model": "logistic regression",
            "roc_auc": roc_auc(baseline, test.weight),
            "average_precision": average_precision(baseline, test.weight),
        },
        "decisions": decision_counts(table.contract, test, score),
        "curves": {"roc": roc, "pr": pr_curve(ranking, test.weight), "calibration": calibration},
        "roc_thresholds": thresholds,
    }


def decision_counts(contract: Contract, rows: Rows, score: Scores) -> dict[str, Any]:
    """Under the contract's rules and thresholds: each decision's share of rows and of positives,
    and precision and recall of what is declined, and of what is not approved."""
    taken = decide(contract, rows.columns, score).decisions
    weight, positive = rows.weight, rows.weight * rows.label
    found: dict[str, Any] = {
        name: {
            "share": float(weight[taken == name].sum() / weight.sum()),
            "positives": float(positive[taken == name].sum() / positive.sum()),
        }
        for name in DECISIONS
    }
    for name, chosen in (("declined", taken == "decline"), ("flagged", taken != "approve")):
        flagged = float(weight[chosen].sum())
        found[name] = {
            "precision": float(positive[chosen].sum()) / flagged if flagged else None,
            "recall": float(positive[chosen].sum() / positive.sum()),
        }
    return found


def _log_loss(rows: Rows, score: Scores) -> float:
    p = np.clip(score.astype(np.float64), 1e-7, 1 - 1e-7)
    loss = -np.where(rows.label == 1, np.log(p), np.log1p(-p))
    return float((rows.weight * loss).sum() / rows.weight.sum())


def _packed(rows: Rows, score: Scores) -> bytes:
    """One array a feature and `score`, readable without pickle."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {
        name: column.astype("U") if column.dtype == object else column
        for name, column in rows.columns.items()
    }
    np.savez(buffer, **{**arrays, "score": score.astype(np.float32)})
    return buffer.getvalue()
