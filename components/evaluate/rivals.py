"""Whom a model is compared with on the same rows: plain baselines, and the bundle in production."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components.checked import Checked, Rows
from components.evaluate.baseline import boosting_scores, logistic_scores
from components.evaluate.judge import Scores
from components.scoring import model_scores, open_model
from serving.bundle import Bundle, Contract
from serving.bundle.rows import Columns
from serving.errors import BundleError

LOGISTIC, BOOSTING = "logistic regression", "gradient boosting"
BASELINES = "baselines"
"""Folder beside model.onnx with other models of the same contract, NAME.onnx."""


@dataclass(frozen=True)
class Champion:
    bundle: Bundle
    score: Scores
    """Of the test rows, in float32."""


def baseline_scores(table: Checked, model: Path | None) -> dict[str, Scores]:
    """Of the test slice, by name: what is fitted here on the rows before it, and what training left
    beside its model."""
    test = table.part("test")
    fitting = table.rows.take(slice(0, table.counts["train"] + table.counts["validation"]))
    found: dict[str, Scores] = {
        LOGISTIC: logistic_scores(table.contract, fitting, test),
        BOOSTING: boosting_scores(table.contract, fitting, test, seed=0),
    }
    for file in sorted((model / BASELINES).glob("*.onnx")) if model else ():
        name = file.stem.replace("_", " ")
        found[name] = model_scores(open_model(file), test.columns)
    return found


def champion_of(bundle: Bundle, contract: Contract, test: Rows) -> Champion:
    """The champion's answers to the test rows.

    Raises BundleError when it needs a column that these rows do not have as it knows them.
    """
    columns: Columns = {}
    for feature in bundle.contract.features:
        if feature.name not in contract.feature_names:
            found = "does not have"
        elif (contract.feature(feature.name).dtype == "string") != (feature.dtype == "string"):
            found = f"has as {contract.feature(feature.name).dtype}"
        else:
            kind = object if feature.dtype == "string" else feature.dtype
            columns[feature.name] = test.columns[feature.name].astype(kind)
            continue
        raise BundleError(
            f"{bundle.path.name}: the champion needs the {feature.dtype} column '{feature.name}',"
            f" which contract '{contract.name}' {found}; compare with another champion or with none"
        )
    return Champion(bundle, model_scores(open_model(bundle.read("model.onnx")), columns))
