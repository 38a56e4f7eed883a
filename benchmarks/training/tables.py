"""The four real tables through contracts alone: the served model next to plain ones.

    python -m benchmarks.training.tables --data FOLDER

The plain ones are fitted on all rows before the test slice, as the served model is: the logistic
regression and the boosted trees that training compares, and scikit-learn's gradient boosting as it
comes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.checked import Rows, read_checked
from components.evaluate.measures import Hits, Ranking, average_precision, roc_auc
from components.evaluate.rivals import baseline_scores
from components.export.core import run as export
from components.scoring import model_scores, open_model
from components.train.core import run as train
from components.train.inputs import matrices
from components.validate.core import run as validate
from serving.bundle import Contract, load_contract

CONTRACTS = Path(__file__).parents[2] / "tests" / "contracts"
TABLES = {
    "ulb_creditcard_subset": "ulb_creditcard",
    "uci_credit_default_2005": "uci_credit_default",
    "bank_marketing_2008_2010": "bank_marketing",
    "electricity_elec2": "electricity",
}
MEASURES = {"average precision": average_precision, "ROC AUC": roc_auc}
SERVED, LOGISTIC, TREES = "served", "logistic regression", "gradient boosting"
STOCK = "scikit-learn's gradient boosting"
PLAIN = (LOGISTIC, TREES, STOCK)
DRAWS = 300


@dataclass(frozen=True)
class Figure:
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


@dataclass(frozen=True)
class Measured:
    """One table: figures by measure and model, and served minus plain on the same draws."""

    family: str
    figures: dict[str, dict[str, Figure]]
    gains: dict[str, dict[str, Figure]]


def measured(data: Path, name: str, work: Path, **options: Any) -> Measured:
    """Trains and judges one table; 95 % intervals by Poisson bootstrap of the test rows."""
    table = data / f"{name}.parquet"
    if name == "ulb_creditcard_subset":  # its other rows crowd the first hours (README of the data)
        kept = pq.read_table(table)
        table = work / f"{name}.parquet"
        pq.write_table(kept.filter(pc.field("uniform48h")), table)
    contract = load_contract(CONTRACTS / f"{TABLES[name]}.json")
    validate(table=table, contract=contract, checked=work / "checked")
    training = train(checked=work / "checked", network=work / "network", **options)
    export(checked=work / "checked", network=work / "network", model=work / "model")
    checked = read_checked(work / "checked")
    fitting, test = checked.before_test(), checked.part("test")
    scores: dict[str, NDArray[Any]] = {
        SERVED: model_scores(open_model(work / "model" / "model.onnx"), test.columns),
        **baseline_scores(checked, work / "model"),
        STOCK: _boosted(contract, fitting, test),
    }
    rankings = {model: Ranking.of(test.label, score) for model, score in scores.items()}
    rng = np.random.default_rng(0)
    draws = [test.weight * rng.poisson(1.0, len(test)) for _ in range(DRAWS)]
    whole = {model: ranking.hits(test.weight) for model, ranking in rankings.items()}
    drawn = {m: [ranking.hits(weight) for weight in draws] for m, ranking in rankings.items()}
    figures: dict[str, dict[str, Figure]] = {}
    gains: dict[str, dict[str, Figure]] = {}
    for measure, function in MEASURES.items():

        def values(model: str, function: Any = function) -> tuple[float, NDArray[np.float64]]:
            found: list[Hits] = drawn[model]
            return function(whole[model]), np.array([function(hits) for hits in found])

        point, of_served = values(SERVED)
        figures[measure] = {model: _figure(*values(model)) for model in scores}
        gains[measure] = {}
        for plain in PLAIN:
            value, of_plain = values(plain)
            gains[measure][plain] = _figure(point - value, of_served - of_plain)
    return Measured(training["family"], figures, gains)


def _figure(value: float, draws: NDArray[np.float64]) -> Figure:
    return Figure(value, *(float(q) for q in np.nanquantile(draws, [0.025, 0.975])))


def _boosted(contract: Contract, fitting: Rows, test: Rows) -> NDArray[np.float64]:
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415
    from threadpoolctl import (  # type: ignore[import-untyped]  # noqa: PLC0415
        threadpool_limits,
    )

    def design(rows: Rows) -> NDArray[np.float64]:
        values, codes = matrices(contract, rows.columns)
        return np.hstack([values, codes.astype(np.float64)])

    model: Any = HistGradientBoostingClassifier(random_state=0)
    weight = fitting.weight / fitting.weight.mean()
    with threadpool_limits(1, user_api="openmp"):
        model.fit(design(fitting), fitting.label, sample_weight=weight)
    result: NDArray[np.float64] = model.predict_proba(design(test))[:, 1]
    return result


def page(found: dict[str, Measured]) -> str:
    lines = [
        "# The served model next to plain ones, on four real tables",
        "",
        (
            "`python -m benchmarks.training.tables --data FOLDER --write`: the latest fifth of"
            " each table is judged; all models are fitted on the rows before it. In brackets the"
            f" 95 % interval of {DRAWS} Poisson bootstrap draws of the test rows; gains are paired"
            " row by row. Logistic regression and gradient boosting are those that training"
            f" compares; {STOCK} is HistGradientBoostingClassifier with its defaults."
        ),
        "",
        (
            f"| table | family | measure | served | {LOGISTIC} | {TREES} | {STOCK} |"
            " gain over the first | gain over the second | gain over the third |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, result in found.items():
        for measure, models in result.figures.items():
            gains = result.gains[measure]
            cells = [models[m] for m in (SERVED, *PLAIN)]
            cells += [gains[m] for m in PLAIN]
            shown = " | ".join(str(cell) for cell in cells)
            lines.append(f"| {name} | {result.family} | {measure} | {shown} |")
    worse = [
        f"{name}, {measure}, {plain}"
        for name, result in found.items()
        for measure, gains in result.gains.items()
        for plain, gain in gains.items()
        if gain.high < 0
    ]
    verdict = "; ".join(worse) or "none"
    return "\n".join([*lines, "", f"Where the served model is worse beyond noise: {verdict}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.tables")
    parser.add_argument("--data", type=Path, required=True, help="folder of the real tables")
    parser.add_argument("--write", action="store_true", help="replace tables.md")
    args = parser.parse_args()
    found = {}
    for name in TABLES:
        with tempfile.TemporaryDirectory() as work:
            found[name] = measured(args.data, name, Path(work))
    sys.stdout.write(page(found))
    if args.write:
        Path(__file__).with_name("tables.md").write_text(page(found), "utf-8")


if __name__ == "__main__":
    main()
