"""From the trained network to model.onnx, proven equal to PyTorch on held-out rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from components.checked import Rows, read_checked
from components.export.graph import build
from components.files import write_bytes, write_json
from components.scoring import model_scores, open_model
from components.train.network import load_network, scores
from serving.bundle import Contract
from serving.bundle.rows import Columns
from serving.errors import BundleError, StageError

TOLERANCE = 1e-5
"""Largest difference of a score between PyTorch and ONNX Runtime."""
PARITY_ROWS, VARIANT_ROWS = 2000, 200
GOLDEN_ROWS, GOLDEN_VARIANTS = 24, 8
UNSEEN_TEXT = "a value outside the list"


def run(*, checked: Path, network: Path, model: Path) -> dict[str, Any]:
    """Exports the network to ONNX and compares the two on held-out rows.

    checked: folder that the validate step wrote.
    network: folder that the train step wrote.
    model: folder to write.

    Writes model.onnx, golden.json and parity.json and returns the last. Raises StageError when a
    score differs by more than 1e-5; then nothing is written.
    """
    table, trained = read_checked(checked), load_network(network)
    if trained.contract != table.contract:
        raise BundleError(
            f"{network}: the network was trained for contract '{trained.contract.name}' as of its"
            f" training, {checked} has another; train it again"
        )
    content = build(trained)
    session = open_model(content)
    held_out = table.held_out()
    rows = sample(held_out, PARITY_ROWS)
    base = sample(held_out, VARIANT_ROWS)
    cases = [rows.columns, *variants(table.contract, base.columns)]
    worst = 0.0
    for columns in cases:
        difference = np.abs(scores(trained, columns) - model_scores(session, columns))
        if not (difference <= TOLERANCE).all():
            row = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
            shown = ", ".join(f"{name}={column[row]}" for name, column in columns.items())
            raise StageError(
                f"{network}: the ONNX graph's score differs from PyTorch's by"
                f" {difference[row]:.2g} (more than {TOLERANCE:g}) on the row {shown[:300]}"
            )
        worst = max(worst, float(difference.max()))
    golden = golden_columns(table.contract, held_out)
    parity = {
        "rows": sum(len(next(iter(columns.values()))) for columns in cases),
        "variants": len(cases) - 1,
        "largest_difference": worst,
        "tolerance": TOLERANCE,
    }
    write_bytes(model / "model.onnx", content)
    write_json(
        model / "golden.json",
        {
            "columns": {name: plain(column) for name, column in golden.items()},
            "score": [float(score) for score in model_scores(session, golden)],
        },
    )
    write_json(model / "parity.json", parity)
    return parity


def sample(rows: Rows, count: int) -> Rows:
    """At most `count` rows, evenly spaced in time order."""
    picked = np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.intp)
    return rows.take(np.unique(picked))


def variants(contract: Contract, columns: Columns) -> list[Columns]:
    """The rows again for each way a feature can be absent: missing, spelled so, or unseen."""
    found: list[Columns] = []
    for feature in contract.features:
        fills: list[Any] = []
        if feature.nullable:
            fills += ["", *feature.missing] if feature.dtype == "string" else [np.nan]
        if feature.unseen == "map" and feature.dtype == "string":
            fills.append(UNSEEN_TEXT)
        for fill in fills:
            column = columns[feature.name].copy()
            column[:] = fill
            found.append({**columns, feature.name: column})
    return found


def golden_columns(contract: Contract, held_out: Rows) -> Columns:
    """Rows that a predictor must reproduce before it serves, some of them with values absent."""
    base = sample(held_out, GOLDEN_ROWS).columns
    cases = [base]
    changed = variants(contract, sample(held_out, 1).columns)
    step = max(1, -(-len(changed) // GOLDEN_VARIANTS))
    cases += changed[::step]
    return {name: np.concatenate([case[name] for case in cases]) for name in base}


def plain(column: Any) -> list[Any]:
    """JSON values of a canonical column; null for missing."""
    return [
        None if value == "" or (isinstance(value, float) and math.isnan(value)) else value
        for value in column.tolist()
    ]
