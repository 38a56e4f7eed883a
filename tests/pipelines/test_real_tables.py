"""Real tables through the components with nothing but a contract each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.evaluate.core import run as evaluate
from components.export.core import run as export
from components.train.core import run as train
from components.validate.core import run as validate
from serving.bundle import load_contract

CONTRACTS = Path(__file__).parents[1] / "contracts"


def metrics_of(work: Path, table: Path, contract: str) -> dict[str, Any]:
    validate(
        table=table,
        contract=load_contract(CONTRACTS / contract),
        checked=work / "checked",
    )
    train(checked=work / "checked", network=work / "network")
    parity = export(checked=work / "checked", network=work / "network", model=work / "model")
    assert parity["largest_difference"] <= 1e-5
    return evaluate(
        checked=work / "checked",
        model=work / "model",
        evaluation=work / "evaluation",
        scored=work / "scored",
    )


def test_bank_marketing_with_text_and_missing_values_needs_only_a_contract(
    shared_data: Path, tmp_path: Path
) -> None:
    found = metrics_of(
        tmp_path, shared_data / "bank_marketing_2008_2010.parquet", "bank_marketing.json"
    )
    assert sum(found["rows"].values()) == 41_188
    assert found["metrics"]["positive_share"] == pytest.approx(0.308, abs=0.001)


def test_credit_default_beats_logistic_regression(shared_data: Path, tmp_path: Path) -> None:
    found = metrics_of(
        tmp_path, shared_data / "uci_credit_default_2005.parquet", "uci_credit_default.json"
    )
    assert found["intervals"]["average_precision_gain"][0] > 0
    assert found["metrics"]["calibration_error"] < 0.03
