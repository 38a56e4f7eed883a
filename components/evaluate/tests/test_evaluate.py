from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from components.checked import read_checked
from components.evaluate import rivals
from components.evaluate.core import run
from components.evaluate.costs import decision_counts
from components.evaluate.rivals import BASELINES, baseline_scores
from components.export.core import run as export
from components.scoring import model_scores, open_model
from components.tests.table import small_contract
from components.train.core import run as train
from serving.errors import FileError
from serving.policy import decide


def test_measures_the_test_slice_through_the_onnx_model(
    checked: Path, model: Path, tmp_path: Path
) -> None:
    metrics = run(
        checked=checked, model=model, evaluation=tmp_path / "eval", scored=tmp_path / "scored"
    )
    test = read_checked(checked).part("test")
    score = model_scores(open_model(model / "model.onnx"), test.columns)
    expected = roc_auc_score(test.label, score, sample_weight=test.weight)
    assert metrics["metrics"]["roc_auc"] == pytest.approx(expected)
    low, high = metrics["intervals"]["roc_auc"]
    assert low < metrics["metrics"]["roc_auc"] < high
    assert 0.6 < metrics["baseline"]["roc_auc"] < 1
    assert metrics["rows"]["test"] == len(test)
    assert set(metrics["curves"]) == {"roc", "pr", "calibration"}
    assert json.loads((tmp_path / "eval" / "metrics.json").read_text()) == metrics


@pytest.mark.parametrize("family", ["logistic", "tree"])
def test_a_plain_model_is_the_same_whether_training_left_it_or_not(
    checked: Path, model: Path, tmp_path: Path, family: str
) -> None:
    train(checked=checked, network=tmp_path / "network", family=family)
    export(checked=checked, network=tmp_path / "network", model=tmp_path / "model")
    table = read_checked(checked)
    left, fitted = (baseline_scores(table, folder) for folder in (tmp_path / "model", model))
    assert not (model / BASELINES).exists()
    assert list(left) == list(fitted) == ["logistic regression", "gradient boosting"]
    for name in left:
        assert np.abs(left[name] - fitted[name]).max() <= 1e-5


def test_training_that_compares_all_leaves_nothing_to_fit(
    checked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(checked=checked, network=tmp_path / "network", epochs=1)
    export(checked=checked, network=tmp_path / "network", model=tmp_path / "model")
    monkeypatch.setattr(rivals, "_fitted", None)
    assert len(baseline_scores(read_checked(checked), tmp_path / "model")) == 2


def test_hands_the_drift_step_the_held_out_rows_with_their_score(
    checked: Path, model: Path, tmp_path: Path
) -> None:
    run(checked=checked, model=model, evaluation=tmp_path / "eval", scored=tmp_path / "scored")
    held_out = read_checked(checked).held_out()
    with np.load(tmp_path / "scored", allow_pickle=False) as arrays:
        assert set(arrays.files) == {*small_contract().feature_names, "score"}
        assert arrays["score"].shape == (len(held_out),)
        assert arrays["channel"].tolist() == held_out.columns["channel"].tolist()
        assert np.array_equal(arrays["age"], held_out.columns["age"], equal_nan=True)


def test_counts_decisions_under_rules_and_thresholds(checked: Path) -> None:
    rows = replace(
        read_checked(checked).rows.take(slice(0, 4)),
        label=np.array([0, 1, 1, 0], dtype=np.int8),
        weight=np.array([2.0, 1.0, 1.0, 4.0]),
    )
    rows.columns["amount"] = np.array([1.0, 1.0, 1.0, 9999.0])
    taken = decide(small_contract(), rows.columns, np.array([0.1, 0.5, 0.9, 0.0])).decisions
    found = decision_counts(taken, rows)
    assert found["approve"] == {"share": 0.25, "positives": 0.0}
    assert found["decline"] == {"share": 0.625, "positives": 0.5}
    assert found["declined"] == {"precision": 0.2, "recall": 0.5}
    assert found["flagged"] == {"precision": pytest.approx(2 / 6), "recall": 1.0}


def test_says_which_step_must_run_first(checked: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no model here; give the folder that the export step"):
        run(checked=checked, model=tmp_path, evaluation=tmp_path / "e", scored=tmp_path / "s")
