from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from components.checked import read_checked
from components.export.core import golden_columns, run, sample
from components.export.graph import build
from components.scoring import model_scores, open_model
from components.tests.table import small_contract
from components.train.network import Network, Shape, load_network, save_network, scores
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
    assert np.abs(ours - scores(load_network(network), columns)).max() <= 1e-5
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
    held_out = read_checked(checked).held_out()
    assert len(golden["score"]) == len(golden_columns(small_contract(), held_out)["amount"])


def test_equal_networks_give_equal_bytes_without_this_machines_paths(network: Path) -> None:
    content = build(load_network(network))
    assert content == build(load_network(network))
    assert b"components/train" not in content
    assert b".py" not in content


@pytest.mark.parametrize("chosen", [slice(0, 3), slice(3, 5)])
def test_exports_contracts_of_numbers_only_and_of_text_only(chosen: slice) -> None:
    features = small_contract().features[chosen]
    torch.manual_seed(0)
    part = Network(small_contract(features=features, rules=()), Shape(width=8)).eval()
    rows: dict[str, Any] = {f.name: [*(f.categories or (1, 2))[:2]] for f in features}
    columns = canonical_columns(part.contract, rows)
    found = model_scores(open_model(build(part)), columns)
    assert np.abs(found - scores(part, columns)).max() <= 1e-6


def test_refuses_a_graph_that_scores_otherwise_and_writes_nothing(
    checked: Path, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(trained: Network) -> bytes:
        trained.offset.add_(0.01)
        content = build(trained)
        trained.offset.sub_(0.01)
        return content

    monkeypatch.setattr("components.export.core.build", other)
    with pytest.raises(StageError, match=r"differs from PyTorch's by .* on the row amount="):
        run(checked=checked, network=network, model=tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_refuses_a_network_of_another_contract(checked: Path, tmp_path: Path) -> None:
    save_network(Network(small_contract(name="other"), Shape()), tmp_path / "network")
    with pytest.raises(BundleError, match="trained for contract 'other'"):
        run(checked=checked, network=tmp_path / "network", model=tmp_path / "model")


def test_a_sample_is_spread_over_all_rows(checked: Path) -> None:
    rows = read_checked(checked).rows
    picked = sample(rows, 10)
    assert len(picked) == 10
    assert picked.time[0] == rows.time[0]
    assert picked.time[-1] == rows.time[-1]
    assert len(sample(rows, 10**6)) == len(rows)
