from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from components.checked import Checked, Rows, read_checked
from components.tests.table import small_contract, small_table
from components.train.candidates import Candidate, Plan, _judged, choose
from components.train.core import run
from components.train.inputs import matrices
from components.train.logistic import fit_logistic
from components.train.model import FAMILIES, PLAIN, Core, load_model, scores
from components.train.search import fold_scores, sampled, time_folds, with_changes
from components.train.tree import TreeSettings, fit_tree, rounds_of
from serving.bundle import canonical_columns
from serving.errors import DataError

PLAN = Plan()


@pytest.fixture(scope="module")
def table(checked: Path) -> Checked:
    return read_checked(checked)


def candidate(family: str, margin: np.ndarray, rows: Rows) -> Candidate:
    """A family that gives the validation rows these log-odds."""
    core = SimpleNamespace(margins=lambda *_: margin)
    return _judged(small_contract(), family, core, rows, method="platt", curve=[])  # type: ignore[arg-type]


def rows_of(label: np.ndarray) -> Rows:
    count = len(label)
    columns = canonical_columns(small_contract(), small_columns(count))
    return Rows(columns, label.astype(np.int8), np.ones(count), np.arange(count, dtype=np.float64))


def small_columns(count: int) -> dict[str, np.ndarray]:
    table = small_table(count)
    return {name: table[name].to_numpy() for name in small_contract().feature_names}


def picked(rows: Rows, **margins: np.ndarray) -> str:
    candidates = [candidate(family, margin, rows) for family, margin in margins.items()]
    return choose(candidates, rows.weight).family


def test_a_family_takes_a_plainer_ones_place_only_when_it_is_surely_better() -> None:
    rng = np.random.default_rng(0)
    label = (rng.random(2000) < 0.1).astype(np.int8)
    noise, more = rng.normal(size=2000), rng.normal(size=2000)
    rows = rows_of(label)
    alike = {"logistic": label + noise, "tree": label + more, "network": label + (noise + more) / 2}
    assert picked(rows, logistic=label + noise, tree=label + more) == "logistic"
    assert picked(rows, **{**alike, "tree": 3 * label + noise}) == "tree"
    assert picked(rows, **{**alike, "network": 3 * label + noise}) == "network"


def test_so_few_positives_that_nothing_is_sure_leave_the_plainest() -> None:
    rng = np.random.default_rng(3)
    label = np.zeros(3000, dtype=np.int8)
    label[:26] = 1
    rows = rows_of(label)
    logistic, tree = (
        candidate(family, rng.normal(-6, 1, 3000) + 4 * label, rows)
        for family in ("logistic", "tree")
    )
    assert choose([logistic, tree], rows.weight).family == "logistic"
    assert choose([tree, logistic], rows.weight).family == "logistic"


def test_reports_all_and_ships_the_chosen_fitted_again_on_the_latest_rows(
    checked: Path, table: Checked, tmp_path: Path
) -> None:
    facts = run(checked=checked, network=tmp_path / "network", curves=tmp_path / "c.html", epochs=2)
    assert [c["family"] for c in facts["candidates"]] == list(FAMILIES)
    assert facts["family"] == "tree"
    tried = fit_tree(table.contract, table.part("train"), PLAN.tree, 0, table.part("validation"))
    again = fit_tree(table.contract, table.before_test(), rounds_of(tried, PLAN.tree), 0)
    assert same_margins(table, load_model(tmp_path / "network").core, again)
    page = (tmp_path / "c.html").read_text()
    assert page.count("<polyline") == 2
    assert all(family in page for family in FAMILIES)


def test_leaves_the_plain_models_that_it_fitted_on_the_same_rows_for_comparison(
    checked: Path, table: Checked, tmp_path: Path
) -> None:
    run(checked=checked, network=tmp_path, epochs=1)
    left = {name: load_model(tmp_path / "baselines" / name).core for name in PLAIN.values()}
    assert same_margins(
        table, left["logistic_regression"], fit_logistic(table.contract, table.before_test())
    )
    assert same_margins(table, left["gradient_boosting"], load_model(tmp_path).core)


def test_plain_models_of_an_earlier_run_do_not_stay(checked: Path, tmp_path: Path) -> None:
    for family, left in (("tree", "gradient_boosting"), ("logistic", "logistic_regression")):
        run(checked=checked, network=tmp_path, family=family)
        assert [folder.name for folder in (tmp_path / "baselines").iterdir()] == [left]


def test_equal_weights_change_no_tree(table: Checked) -> None:
    rows, validation = table.part("train"), table.part("validation")
    ones, fives = (
        [replace(part, weight=np.full(len(part), value)) for part in (rows, validation)]
        for value in (1.0, 5.0)
    )
    first, second = (fit_tree(table.contract, a, PLAN.tree, 0, b) for a, b in (ones, fives))
    assert same_margins(table, first, second)


def same_margins(table: Checked, one: Core, other: Core) -> bool:
    test = matrices(table.contract, table.part("test").columns)
    first, second = (core.margins(table.contract, *test) for core in (one, other))
    return np.array_equal(first, second)


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
    rows = table.before_test()
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
    found = fold_scores(table.contract, table.before_test(), plan, 3)
    assert len(found) == 3
    assert all(0.3 < value < 1 for value in found)
