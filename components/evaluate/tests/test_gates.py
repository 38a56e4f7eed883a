"""The contract's gates, the champion, costs and segments, on scores made for the purpose."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.checked import Checked, read_checked, write_checked
from components.evaluate.core import measure, run
from components.evaluate.page import page
from components.evaluate.rivals import Champion, champion_of
from components.scoring import model_scores, open_model
from components.tests.table import CONTRACT, small_contract
from serving.bundle import Bundle, Contract, write_bundle
from serving.errors import BundleError, StageError

COSTS = {
    "currency": "EUR",
    "approve": {"positive": "amount"},
    "review": {"positive": 4, "negative": 4},
    "decline": {"negative": 25},
}


def judged(table: Checked, **evaluation: Any) -> Checked:
    return replace(table, contract=small_contract(evaluation=evaluation))


@pytest.fixture(scope="module")
def table(checked: Path) -> Checked:
    return read_checked(checked)


@pytest.fixture(scope="module")
def good(table: Checked, model: Path) -> np.ndarray:
    return model_scores(open_model(model / "model.onnx"), table.part("test").columns)


@pytest.fixture(scope="module")
def poor(good: np.ndarray) -> np.ndarray:
    """Half of the rows scored at random."""
    rng = np.random.default_rng(0)
    return np.where(rng.random(len(good)) < 0.5, rng.permutation(good), good)


def champion(folder: Path, model: Path, contract: Contract) -> Bundle:
    files = dict.fromkeys(
        ("golden.json", "lineage.json", "metrics.json", "drift/config.json"), b"{}"
    )
    files |= {"card.md": b"", "drift/reference.npz": b""}
    files |= {"model.onnx": model.read_bytes(), "contract.json": contract.canonical_json().encode()}
    return write_bundle(folder, files, attestation={})


def test_costs_take_the_rows_own_amount_and_the_contracts_weights(
    table: Checked, good: np.ndarray
) -> None:
    table = judged(table, costs=COSTS)
    test = table.part("test")
    found = measure(table, np.zeros(len(test)), 1, 0)  # a rule declines, all else is approved
    ruled = test.columns["amount"] > 5000
    lost = np.where(test.label == 1, test.columns["amount"], 0.0)
    each = np.where(ruled, np.where(test.label == 1, 0.0, 25.0), lost)
    expected = float((each * test.weight).sum() / test.weight.sum())
    assert found["metrics"]["cost_per_row"] == pytest.approx(expected)
    assert measure(table, good, 1, 0)["metrics"]["cost_per_row"] < expected


def test_segments_and_time_slices_repeat_the_measures_and_miss_no_row(
    table: Checked, good: np.ndarray
) -> None:
    table = judged(table, segments=["channel", "visits", "age"], costs=COSTS)
    found, test = measure(table, good, 20, 0), table.part("test")
    assert [one["name"] for one in found["segments"]["channel"]] == [
        "phone",
        "shop",
        "web",
        "missing",
    ]
    for parts in (found["time_slices"], *found["segments"].values()):
        assert sum(one["rows"] for one in parts) == len(test)
        assert sum(one["share"] for one in parts) == pytest.approx(1.0)
    web = found["segments"]["channel"][2]
    chosen = test.take(np.flatnonzero(test.columns["channel"] == "web"))
    assert web["positive_share"] == pytest.approx(np.average(chosen.label, weights=chosen.weight))
    low, high = web["intervals"]["roc_auc"]
    assert low < web["metrics"]["roc_auc"] < high
    html = page(table.contract, {**found, "importance": []})
    assert "By channel" in html
    assert "<script" not in html
    assert "http" not in html


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ({"measure": "roc_auc", "min": 0.999}, "roc_auc is 0.6.* must be 0.999 or more"),
        ({"measure": "calibration_error", "max": 1e-6}, "must be 1e-06 or less"),
        (
            {"measure": "average_precision", "not_worse_than": "champion"},
            "must not be proven worse than the champion's; bundle .* better by 0",
        ),
        (
            {"measure": "log_loss", "not_worse_than": "baseline"},
            "worse than the baseline's; logistic regression has",
        ),
    ],
)
def test_a_gate_that_is_not_passed_says_what_was_asked_and_found(
    *,
    gate: dict[str, Any],
    says: str,
    table: Checked,
    model: Path,
    tmp_path: Path,
    good: np.ndarray,
    poor: np.ndarray,
) -> None:
    table = judged(table, gates=[gate])
    bundle = champion(tmp_path, model / "model.onnx", small_contract())
    found = measure(table, poor, 100, 0, champion=Champion(bundle, good))
    (verdict,) = found["gates"]
    assert not verdict["passed"]
    assert re.search(says, verdict["sentence"]), verdict["sentence"]


def test_noise_and_an_absent_champion_fail_nobody(table: Checked, good: np.ndarray) -> None:
    ask = [{"measure": "average_precision", "not_worse_than": "champion"}]
    assert measure(judged(table, gates=ask), good, 20, 0)["gates"][0]["passed"]


def test_the_champion_is_paired_row_by_row_and_decides_by_its_own_thresholds(
    table: Checked, model: Path, good: np.ndarray, tmp_path: Path
) -> None:
    table = judged(table, costs=COSTS)
    lenient = small_contract(decision={"review": 0.9, "decline": 0.95}, rules=[])
    rival = champion_of(
        champion(tmp_path, model / "model.onnx", lenient), table.contract, table.part("test")
    )
    gains = measure(table, good, 50, 0, champion=rival)["champion"]["gains"]
    assert gains["roc_auc"] == {"gain": 0.0, "interval": [0.0, 0.0]}
    assert gains["cost_per_row"]["interval"][0] > 0


def test_a_champion_that_needs_a_column_these_rows_lack_is_named(
    table: Checked, model: Path, tmp_path: Path
) -> None:
    more = small_contract(features=[*CONTRACT["features"], {"name": "country", "dtype": "float32"}])
    with pytest.raises(BundleError, match="needs the float32 column 'country'"):
        champion_of(
            champion(tmp_path, model / "model.onnx", more), table.contract, table.part("test")
        )


def test_a_failed_gate_fails_the_step_after_the_report_is_written_and_a_warning_does_not(
    table: Checked, model: Path, tmp_path: Path
) -> None:
    for rule in ("fail", "warn"):
        gate = {"measure": "roc_auc", "min": 0.999, "on_failure": rule}
        write_checked(tmp_path / rule, judged(table, gates=[gate]))
    steps: dict[str, Any] = {"model": model, "scored": tmp_path / "scored", "draws": 5}
    assert not run(checked=tmp_path / "warn", evaluation=tmp_path / "w", **steps)["gates"][0][
        "passed"
    ]
    with pytest.raises(StageError, match="does not pass the contract's gates: roc_auc is 0"):
        run(checked=tmp_path / "fail", evaluation=tmp_path / "f", **steps)
    report = (tmp_path / "f" / "report.html").read_text()
    assert "must be 0.999 or more" in report
    assert "What each feature contributes" in report


def test_the_feature_that_moves_the_score_most_is_first_in_importance(
    checked: Path, model: Path, tmp_path: Path
) -> None:
    found = run(
        checked=checked, model=model, evaluation=tmp_path / "e", scored=tmp_path / "s", draws=5
    )
    importance = {one["feature"]: one["loss"] for one in found["importance"]}
    assert next(iter(importance)) == "amount"
    assert abs(importance["card"]) < importance["amount"] / 10
