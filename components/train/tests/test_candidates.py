from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.checked import Checked, Rows, read_checked
from components.train.calibration import line
from components.train.candidates import Candidate, Plan, choose
from components.train.core import before_test, run
from components.train.inputs import matrices
from components.train.logistic import fit_logistic
from components.train.model import FAMILIES, load_model, scores
from components.train.search import fold_scores, sampled, time_folds, with_changes
from components.train.tree import TreeSettings, fit_tree
from serving.errors import DataError


@pytest.fixture(scope="module")
def table(checked: Path) -> Checked:
    return read_checked(checked)


def candidate(family: str, margin: np.ndarray, precision: float) -> Candidate:
    core = object()
    return Candidate(family, core, line(1, 0), precision, 0, 0, margin)  # type: ignore[arg-type]


def rows_of(label: np.ndarray) -> Rows:
    count = len(label)
    return Rows({}, label.astype(np.int8), np.ones(count), np.arange(count, dtype=np.float64))


def test_a_larger_family_is_taken_only_when_it_surely_wins() -> None:
    rng = np.random.default_rng(0)
    label = (rng.random(2000) < 0.1).astype(np.int8)
    noise, more = rng.normal(size=2000), rng.normal(size=2000)
    plain = candidate("logistic", label + noise, 0.3)
    alike = candidate("tree", label + more, 0.31)
    better = candidate("network", 2 * label + noise, 0.6)
    assert choose([plain, alike], rows_of(label)).family == "logistic"
    assert choose([plain, alike, better], rows_of(label)).family == "network"


def test_reports_all_and_ships_the_chosen_fitted_again_on_the_latest_rows(
    checked: Path, table: Checked, tmp_path: Path
) -> None:
    facts = run(checked=checked, network=tmp_path / "network", curves=tmp_path / "c.html", epochs=2)
    assert [c["family"] for c in facts["candidates"]] == list(FAMILIES)
    assert facts["family"] == "logistic"  # the small table's label is logistic
    model = load_model(tmp_path / "network")
    again = fit_logistic(table.contract, before_test(table))
    test = matrices(table.contract, table.part("test").columns)
    ours = model.core.margins(table.contract, *test)
    assert np.array_equal(ours, again.margins(table.contract, *test))
    page = (tmp_path / "c.html").read_text()
    assert page.count("<polyline") == 2
    assert all(family in page for family in FAMILIES)


def test_without_a_second_fit_the_model_is_that_of_the_training_slice(
    checked: Path, table: Checked, tmp_path: Path
) -> None:
    run(checked=checked, network=tmp_path, family="tree", refit_all=False)
    model = load_model(tmp_path)
    tree = fit_tree(
        table.contract, table.part("train"), TreeSettings(), 0, table.part("validation")
    )
    test = table.part("test").columns
    expected = tree.margins(table.contract, *matrices(table.contract, test))
    assert np.array_equal(scores(model, test), model.calibration.apply(expected))


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_probabilities_of_the_weighted_rows(
    checked: Path, table: Checked, tmp_path: Path, family: str
) -> None:
    run(checked=checked, network=tmp_path, family=family, epochs=3)
    test = table.part("test")
    mean = np.average(scores(load_model(tmp_path), test.columns), weights=test.weight)
    assert mean == pytest.approx(np.average(test.label, weights=test.weight), abs=0.05)


def test_time_folds_judge_only_rows_after_those_they_fit(table: Checked) -> None:
    rows = before_test(table)
    folds = list(time_folds(rows, 3))
    assert len(folds) == 3
    assert folds[-1][1].time[-1] == rows.time[-1]
    for fitted, judged in folds:
        assert fitted.time[-1] < judged.time[0]
    with pytest.raises(DataError, match="time fold .* of 500 lacks positive or negative rows"):
        list(time_folds(rows, 500))


def test_a_search_tries_as_often_as_it_may_and_trains_with_the_best(
    checked: Path, tmp_path: Path
) -> None:
    facts = run(checked=checked, network=tmp_path, family="tree", trials=3, folds=2)
    assert len(facts["trials"]) == 3
    assert all(len(trial["folds"]) == 2 for trial in facts["trials"])
    best = max(facts["trials"], key=lambda trial: float(trial["average_precision"]))
    assert facts["settings"]["tree"]["leaves"] == best["settings"]["leaves"]


def test_trials_side_by_side_draw_different_settings_and_each_the_same_again() -> None:
    drawn = [sampled(number, seed=1, families=FAMILIES) for number in range(4)]
    assert sampled(2, seed=1, families=FAMILIES) == drawn[2]
    assert len({str(changes) for changes in drawn}) == 4


def test_results_of_trials_change_each_familys_settings_to_its_best() -> None:
    text = (
        '[{"settings": {"family": "network", "width": 32}, "average_precision": 0.4},'
        ' {"settings": {"family": "network", "width": 128}, "average_precision": 0.3},'
        ' {"settings": {"family": "tree", "leaves": 5}, "average_precision": 0.2}]'
    )
    plan = with_changes(Plan(), text)
    assert plan.network.shape.width == 32
    assert plan.tree.leaves == 5


def test_cross_validation_gives_one_measure_a_fold(table: Checked) -> None:
    plan = replace(Plan(), family="logistic")
    found = fold_scores(table.contract, before_test(table), plan, 3)
    assert len(found) == 3
    assert all(0.3 < value < 1 for value in found)
