"""Whom a model is compared with on the same rows: plain baselines, and the bundle in production."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.checked import Checked, Rows
from components.evaluate.judge import Scores
from components.scoring import model_scores, open_model
from serving.bundle import Bundle, Contract
from serving.bundle.rows import Columns
from serving.errors import BundleError

Plain = Literal["logistic", "tree"]
PLAIN: dict[str, Plain] = {"logistic regression": "logistic", "gradient boosting": "tree"}
BASELINES = "baselines"
"""Folder beside model.onnx with plain models of the same contract, NAME.onnx."""


@dataclass(frozen=True)
class Champion:
    bundle: Bundle
    score: Scores
    """Of the test rows, in float32."""


def baseline_scores(table: Checked, model: Path | None) -> dict[str, Scores]:
    """Of the test slice, by name: the plain models that training left beside its own, each fitted
    on the rows before that slice. One that was not trained is fitted here."""
    test = table.part("test")
    found: dict[str, Scores] = {}
    for name, family in PLAIN.items():
        file = (model or Path()) / BASELINES / f"{name.replace(' ', '_')}.onnx"
        if model is not None and file.is_file():
            found[name] = model_scores(open_model(file), test.columns)
        else:
            found[name] = _fitted(table, family)
    return found


def _fitted(table: Checked, family: Plain) -> Scores:
    """As the train step would: judged on the validation slice, then fitted on that too."""
    # Imported late: torch takes a second, and most runs need none of it.
    from components.train.candidates import Plan, compare, refit  # noqa: PLC0415
    from components.train.model import scores  # noqa: PLC0415

    plan = Plan(family=family)
    contract = table.contract
    (candidate,) = compare(contract, table.part("train"), table.part("validation"), plan)
    model = refit(contract, candidate, table.before_test(), plan)
    return scores(model, table.part("test").columns)


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
