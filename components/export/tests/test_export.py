from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from components.checked import Rows, read_checked
from components.export.core import compare as compare_outputs
from components.export.core import golden_columns, run, sample
from components.export.graph import build
from components.scoring import model_scores, open_model
from components.tests.table import small_contract, small_table
from components.train.calibration import line
from components.train.candidates import Plan, compare
from components.train.fit import Settings
from components.train.logistic import fit_logistic
from components.train.model import (
    FAMILIES,
    Family,
    Model,
    load_model,
    margins,
    save_model,
    scores,
)
from components.train.network import Network, Shape
from components.train.tree import Tree, TreeSettings, fit_tree
from serving.bundle import canonical_columns, check_columns
from serving.errors import BundleError, StageError


def test_takes_raw_columns_by_name_and_gives_one_score(model: Path) -> None:
    graph = onnx.load(model / "model.onnx").graph
    name_of = onnx.TensorProto.DataType.Name
    kinds = {value.name: name_of(value.type.tensor_type.elem_type) for value in graph.input}
    assert kinds == {
        "amount": "DOUBLE",
        "age": "FLOAT",
        "visits": "INT64",
        "channel": "STRING",
        "card": "STRING",
    }
    for value in (*graph.input, *graph.output):
        assert [d.dim_param for d in value.type.tensor_type.shape.dim] == ["rows"]
    assert [value.name for value in graph.output] == ["score"]


def test_scores_held_out_rows_as_pytorch_does(checked: Path, network: Path, model: Path) -> None:
    columns = read_checked(checked).held_out().columns
    ours = model_scores(open_model(model / "model.onnx"), columns)
    assert np.abs(ours - scores(load_model(network), columns)).max() <= 1e-5
    assert ours.std() > 0.05


@pytest.mark.parametrize("rows", [1, 2, 17])
def test_scores_a_row_alike_in_any_batch(checked: Path, model: Path, rows: int) -> None:
    held_out, session = read_checked(checked).held_out(), open_model(model / "model.onnx")
    whole = model_scores(session, held_out.columns)
    part = model_scores(session, held_out.take(slice(5, 5 + rows)).columns)
    assert np.abs(part - whole[5 : 5 + rows]).max() <= 1e-6


def test_every_spelling_of_missing_is_one_and_unseen_is_another(model: Path) -> None:
    columns = canonical_columns(
        small_contract(),
        {
            "amount": [80.0] * 4,
            "age": [40.0] * 4,
            "visits": [2] * 4,
            "channel": [None, "unknown", "fax", "pigeon"],
            "card": ["debit"] * 4,
        },
    )
    empty, spelled, fax, pigeon = model_scores(open_model(model / "model.onnx"), columns)
    assert empty == spelled
    assert fax == pigeon
    assert empty != fax


def test_golden_rows_obey_the_contract_and_hold_absent_values(checked: Path, model: Path) -> None:
    golden = json.loads((model / "golden.json").read_text())
    columns = canonical_columns(small_contract(), golden["columns"])
    assert check_columns(small_contract(), columns) == []
    assert None in golden["columns"]["age"]
    assert None in golden["columns"]["channel"]
    again = model_scores(open_model(model / "model.onnx"), columns)
    assert np.abs(again - np.array(golden["score"])).max() <= 1e-6
    test = read_checked(checked).part("test")
    assert len(golden["score"]) == len(golden_columns(small_contract(), test)["amount"])


def test_equal_networks_give_equal_bytes_without_this_machines_paths(
    network: Path, model: Path
) -> None:
    content = build(load_model(network))
    assert content == (model / "model.onnx").read_bytes()
    assert b"components/train" not in content
    assert b".py" not in content


@pytest.fixture(scope="module")
def families(checked: Path) -> dict[Family, Model]:
    """A model of each family, the isotonic map on all of them."""
    table = read_checked(checked)
    plan = Plan(network=Settings(epochs=1), calibration="isotonic")
    slices = table.part("train"), table.part("validation")
    return {
        c.family: Model(table.contract, c.core, c.calibration)
        for c in compare(table.contract, *slices, plan)
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_scores_in_the_graph_as_in_its_own_library(
    checked: Path, families: dict[Family, Model], family: Family, tmp_path: Path
) -> None:
    save_model(families[family], tmp_path / "network")
    parity = run(checked=checked, network=tmp_path / "network", model=tmp_path / "model")
    assert parity["family"] == family
    assert parity["largest_difference"] <= 1e-5
    assert parity["variants"] == 4  # age missing; channel empty, spelled so, unseen
    assert families[family].calibration.method == "isotonic"
    columns = read_checked(checked).part("test").columns
    found = model_scores(open_model(tmp_path / "model" / "model.onnx"), columns)
    assert np.abs(found - scores(load_model(tmp_path / "network"), columns)).max() <= 1e-5
    assert len(np.unique(found)) > 100


@pytest.mark.parametrize(
    ("family", "chosen"),
    [
        *((family, part) for family in FAMILIES for part in (slice(0, 3), slice(3, 5))),
        ("tree", slice(1, 2)),
        ("logistic", slice(1, 2)),
    ],
)
def test_exports_contracts_of_numbers_only_and_of_text_only(family: Family, chosen: slice) -> None:
    features = small_contract().features[chosen]
    part = small_contract(features=features, rules=())
    frame = small_table(300)
    rows = Rows(
        canonical_columns(part, {f.name: frame[f.name].to_numpy() for f in features}),
        frame["fraud"].to_numpy(),
        np.ones(300),
        np.arange(300.0),
    )
    core: Any
    if family == "network":
        torch.manual_seed(0)
        core = Network(part, Shape(width=8)).eval()
    else:
        settings = TreeSettings(rounds=5)
        tree = family == "tree"
        core = fit_tree(part, rows, settings, 0) if tree else fit_logistic(part, rows)
    model = Model(part, core, line(0.8, -0.1))
    found = model_scores(open_model(build(model)), rows.columns)
    assert np.abs(found - scores(model, rows.columns)).max() <= 1e-6


def test_trees_take_no_other_side_for_values_next_to_a_threshold(
    families: dict[Family, Model], checked: Path
) -> None:
    model = families["tree"]
    tree = model.core
    assert isinstance(tree, Tree)
    columns = read_checked(checked).part("test").take(slice(0, 1)).columns
    edges = tree.threshold[(tree.leaf == 0) & (tree.feature == 0)].astype(np.float64)
    amount = np.unique(edges * tree.scale[0] + tree.center[0])
    near = np.concatenate([amount, np.nextafter(amount, 0), amount * (1 + 1e-7)])
    rows = {name: np.repeat(column, len(near)) for name, column in columns.items()}
    rows["amount"] = near
    found = model_scores(open_model(build(model)), rows)
    assert np.abs(found - scores(model, rows)).max() <= 1e-5


def test_gives_the_score_before_calibration_where_the_contract_asks_for_it(
    families: dict[Family, Model], checked: Path
) -> None:
    contract = small_contract(outputs=["score", "raw_score"])
    model = replace(families["tree"], contract=contract)
    columns = read_checked(checked).part("test").columns
    session = open_model(build(model))
    raw = model_scores(session, columns, "raw_score")
    assert np.abs(raw - 1 / (1 + np.exp(-margins(model, columns)))).max() <= 1e-5
    assert np.abs(raw - model_scores(session, columns)).max() > 0.01


def test_a_small_front_turns_all_columns_at_once(families: dict[Family, Model]) -> None:
    kinds = [node.op_type for node in onnx.load_from_string(build(families["logistic"])).graph.node]
    assert kinds.count("Transpose") == 2  # the numbers and the codes
    assert "Unsqueeze" not in kinds[: kinds.index("LabelEncoder") + 6]


def shifted(by: float) -> Callable[[Model], bytes]:
    def build_shifted(trained: Model) -> bytes:
        calibration = trained.calibration
        return build(
            replace(trained, calibration=replace(calibration, offset=calibration.offset + by))
        )

    return build_shifted


def test_refuses_a_graph_that_scores_otherwise_and_writes_nothing(
    checked: Path,
    families: dict[Family, Model],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("components.export.core.build", shifted(0.01))
    save_model(families["tree"], tmp_path / "network")
    with pytest.raises(StageError, match=r"differs from scikit-learn's by .* on the row amount="):
        run(checked=checked, network=tmp_path / "network", model=tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_refuses_a_graph_that_decides_a_row_otherwise(
    checked: Path, families: dict[Family, Model], tmp_path: Path
) -> None:
    trained = families["logistic"]
    row = read_checked(checked).part("test").columns
    score = float(model_scores(open_model(build(trained)), row)[0])
    edge = {"review": score * (1 - 1e-6), "decline": 1.0}
    contract = small_contract(decision=edge)
    moved = shifted(-2e-5)
    session = open_model(moved(trained))
    with pytest.raises(StageError, match="lie on two sides of a threshold on the row amount="):
        compare_outputs(tmp_path, replace(trained, contract=contract), session, [row], "cpu")


def test_refuses_a_model_of_another_contract(checked: Path, tmp_path: Path) -> None:
    other = small_contract(name="other")
    save_model(Model(other, Network(other, Shape()), line(1, 0)), tmp_path / "network")
    with pytest.raises(BundleError, match="trained for contract 'other'"):
        run(checked=checked, network=tmp_path / "network", model=tmp_path / "model")


def test_a_sample_is_spread_over_all_rows(checked: Path) -> None:
    rows = read_checked(checked).rows
    picked = sample(rows, 10)
    assert len(picked) == 10
    assert picked.time[0] == rows.time[0]
    assert picked.time[-1] == rows.time[-1]
    assert len(sample(rows, 10**6)) == len(rows)
