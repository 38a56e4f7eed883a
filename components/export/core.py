"""From the trained model to model.onnx, proven equal to the library that trained it."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.checked import Rows, read_checked
from components.export.graph import build
from components.files import write_bytes, write_json
from components.scoring import model_scores, on_gpu, open_model
from components.train.model import BASELINES, Model, load_model, raw_scores, scores
from serving.bundle import Contract
from serving.bundle.rows import Columns
from serving.errors import BundleError, StageError

TOLERANCE = {"cpu": 1e-5, "cuda": 1e-3}
"""Largest difference of a score between ONNX Runtime and the library that trained the model, which
computes on the CPU. CUDA's matrix products round otherwise."""
PARITY_ROWS, VARIANT_ROWS = 2000, 200
GOLDEN_ROWS, GOLDEN_VARIANTS = 24, 8
UNSEEN_TEXT = "a value outside the list"
LIBRARY = {"network": "PyTorch", "tree": "scikit-learn", "logistic": "NumPy"}


def run(*, checked: Path, network: Path, model: Path) -> dict[str, Any]:
    """Exports the trained model to ONNX and compares the two on held-out rows.

    checked: folder that the validate step wrote.
    network: folder that the train step wrote.
    model: folder to write.

    Writes model.onnx, golden.json and parity.json and returns the last; beside them the graphs of
    the plain models that training left, for evaluate to compare with. Raises StageError when a
    score differs by more than 1e-5 (1e-3 on CUDA, tried where there is one) or a row's decision
    changes; then nothing is written.
    """
    table, trained = read_checked(checked), load_model(network)
    if trained.contract != table.contract:
        raise BundleError(
            f"{network}: the model was trained for contract '{trained.contract.name}' as of its"
            f" training, {checked} has another; train it again"
        )
    content = build(trained)
    session = open_model(content)
    test = table.part("test")
    cases = [
        sample(test, PARITY_ROWS).columns,
        *variants(table.contract, sample(test, VARIANT_ROWS).columns),
    ]
    largest = {"cpu": compare(network, trained, session, cases, "cpu")}
    gpu = on_gpu(content)
    if gpu is not None:
        largest["cuda"] = compare(network, trained, gpu, cases, "cuda")
    golden = golden_columns(table.contract, test)
    parity = {
        "family": trained.core.kind,
        "rows": sum(len(next(iter(columns.values()))) for columns in cases),
        "variants": len(cases) - 1,
        "largest_difference": largest["cpu"],
        "tolerance": TOLERANCE["cpu"],
        "decisions_changed": 0,
        "by_device": {
            device: {"largest_difference": difference, "tolerance": TOLERANCE[device]}
            for device, difference in largest.items()
        },
    }
    shutil.rmtree(model / BASELINES, ignore_errors=True)  # an earlier run's
    for left in sorted((network / BASELINES).glob("*")):
        write_bytes(model / BASELINES / f"{left.name}.onnx", build(load_model(left)))
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


def compare(where: Path, trained: Model, session: Any, cases: list[Columns], device: str) -> float:
    """The largest difference of an output. Raises StageError beyond the device's tolerance."""
    worst = 0.0
    reference = {"score": scores, "raw_score": raw_scores}
    for columns in cases:
        for output in trained.contract.outputs:
            ours = model_scores(session, columns, output)
            theirs = reference[output](trained, columns)
            difference = np.abs(theirs - ours)
            if not (difference <= TOLERANCE[device]).all():
                row = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
                raise StageError(
                    f"{where}: the ONNX graph's {output} differs from"
                    f" {LIBRARY[trained.core.kind]}'s by {difference[row]:.2g} (more than"
                    f" {TOLERANCE[device]:g} on {device}) on the row {_shown(columns, row)}"
                )
            worst = max(worst, float(difference.max()))
            changed = decisions(trained.contract, ours) != decisions(trained.contract, theirs)
            if output == "score" and changed.any():
                row = int(np.argmax(changed))
                raise StageError(
                    f"{where}: the ONNX graph's score {ours[row]:.9g} and"
                    f" {LIBRARY[trained.core.kind]}'s {theirs[row]:.9g} lie on two sides of a"
                    f" threshold on the row {_shown(columns, row)}"
                )
    return worst


def decisions(contract: Contract, score: NDArray[np.float32]) -> NDArray[np.intp]:
    """Which side of the contract's thresholds each score lies on."""
    thresholds = contract.decision
    return np.searchsorted([thresholds.review, thresholds.decline], score, side="right")


def _shown(columns: Columns, row: int) -> str:
    return ", ".join(f"{name}={column[row]}" for name, column in columns.items())[:300]


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
