"""How good the ONNX model is on the test slice, next to plain baselines and the champion."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from components.checked import Checked, Rows, read_checked
from components.evaluate import slices
from components.evaluate.costs import confusion, decision_counts
from components.evaluate.gates import judge_gates, refuse
from components.evaluate.importance import permutation_importance
from components.evaluate.judge import Judge, Scores, gains, interval, number, resample
from components.evaluate.measures import pr_curve, roc_curve
from components.evaluate.page import page
from components.evaluate.rivals import Champion, baseline_scores, champion_of
from components.files import write_bytes, write_json
from components.scoring import model_scores, open_model
from components.storage import fetch
from serving.policy import decide

FORMAT = "seatrial.metrics/1"
MODEL, CHAMPION = "model", "champion"


def run(
    *,
    checked: Path,
    model: Path,
    evaluation: Path,
    scored: Path,
    champion: str = "",
    draws: int = 200,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures the ONNX model on the test slice and holds it against the contract's gates.

    checked: folder that the validate step wrote.
    model: folder that the export step wrote.
    evaluation: folder to write; gets metrics.json and report.html.
    scored: .npz to write, the held-out rows in time order with their score, for the drift step.
    champion: bundle in production to compare with, a path or s3://…; empty for none.
    draws: bootstrap resamples behind each interval.
    seed: seed of the resamples.

    Returns what it wrote to metrics.json. Raises FileError, BundleError, and StageError when a gate
    fails; metrics and report are written then too.
    """
    table = read_checked(checked)
    held_out, test = table.held_out(), table.part("test")
    session = open_model(model / "model.onnx")
    score = model_scores(session, held_out.columns)
    with tempfile.TemporaryDirectory() as scratch:
        rival = (
            champion_of(fetch(champion, Path(scratch)), table.contract, test) if champion else None
        )
    metrics = measure(
        table,
        score[table.counts["validation"] :],
        draws,
        seed,
        baselines=baseline_scores(table, model),
        champion=rival,
    )
    metrics["importance"] = permutation_importance(
        lambda columns: model_scores(session, columns), test, seed
    )
    write_bytes(scored, _packed(held_out, score))
    write_json(evaluation / "metrics.json", metrics)
    write_bytes(evaluation / "report.html", page(table.contract, metrics).encode())
    refuse(checked, metrics["gates"])
    return metrics


def measure(
    table: Checked,
    score: Scores,
    draws: int,
    seed: int,
    *,
    baselines: Mapping[str, Scores] | None = None,
    champion: Champion | None = None,
) -> dict[str, Any]:
    """metrics.json for the scores of the test slice, [rows]. All but row counts is weighted.

    `baselines`: scores of the test slice by name, logistic regression first; fitted here when left
    out.
    """
    contract, test = table.contract, table.part("test")
    if baselines is None:
        baselines = baseline_scores(table, None)
    scores = {MODEL: (score, contract)}
    if champion is not None:
        scores[CHAMPION] = (champion.score, champion.bundle.contract)
    plain = {name: (values, contract) for name, values in baselines.items()}
    judges = {
        name: Judge.of(contract, test, values, policy)
        for name, (values, policy) in {**scores, **plain}.items()
    }
    drawn = resample(judges, test.weight, draws, seed)
    found = {name: judge.measures(test.weight) for name, judge in judges.items()}
    model = judges[MODEL]
    taken = decide(contract, test.columns, score).decisions
    roc, thresholds = roc_curve(model.ranking, test.weight)

    def beside(name: str) -> dict[str, Any]:
        return {
            "metrics": {measure: number(value) for measure, value in found[name].items()},
            "gains": gains(found[MODEL], found[name], drawn, name),
        }

    rivals = [{"model": name, **beside(name)} for name in baselines]
    metrics: dict[str, Any] = {
        "format": FORMAT,
        "rows": table.counts,
        "window": {key: table.facts.get(key) for key in ("from", "to", "test_from")},
        "metrics": {
            **{name: number(value) for name, value in found[MODEL].items()},
            "positive_share": float((test.weight * test.label).sum() / test.weight.sum()),
        },
        "intervals": {
            **{name: interval(values) for name, values in drawn[MODEL].items()},
            "average_precision_gain": rivals[0]["gains"]["average_precision"]["interval"],
        },
        "baseline": {"model": rivals[0]["model"], **rivals[0]["metrics"]},
        "baselines": rivals,
        "champion": None
        if champion is None
        else {"digest": champion.bundle.digest, **beside(CHAMPION)},
        "decisions": decision_counts(taken, test),
        "confusion": confusion(taken, test),
        "time_slices": slices.measured(
            contract, test, slices.time_slices(test), scores, draws=draws, seed=seed
        ),
        "segments": {
            name: slices.measured(contract, test, parts, scores, draws=draws, seed=seed)
            for name, parts in slices.segments(contract, test).items()
        },
        "curves": {
            "roc": roc,
            "pr": pr_curve(model.ranking, test.weight),
            "calibration": model.groups.curve(test.weight),
        },
        "roc_thresholds": thresholds,
    }
    metrics["gates"] = judge_gates(contract.evaluation.gates, metrics)
    return metrics


def _packed(rows: Rows, score: Scores) -> bytes:
    """One array a feature and `score`, readable without pickle."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {
        name: column.astype("U") if column.dtype == object else column
        for name, column in rows.columns.items()
    }
    np.savez(buffer, **{**arrays, "score": score.astype(np.float32)})
    return buffer.getvalue()
