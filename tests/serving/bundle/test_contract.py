"""What a contract accepts, and what it says when it contradicts itself."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.bundle import load_contract
from serving.bundle.contract import parse_contract
from serving.errors import ContractError, FileError
from tests.support import tiny


def _edited(edit: Callable[[dict[str, Any]], object]) -> str:
    data = copy.deepcopy(tiny.CONTRACT)
    edit(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda c: c["features"][0].update(min=5, max=1), "'amount': min 5 is above max 1"),
        (
            lambda c: c["features"][0].update(categories=["a"]),
            "'amount': categories are for",
        ),
        (
            lambda c: c["features"][2].update(nullable=True),
            "'visits': an int64 has no",
        ),
        (lambda c: c["features"][3].update(min=0), "'channel': min and max are for numbers"),
        (lambda c: c["features"][3].update(categories=[]), "'channel': a string feature needs"),
        (
            lambda c: c["features"][3].update(categories=["a", "a"]),
            "'a' is listed 2 times",
        ),
        (lambda c: c["features"][3].update(missing=["web"]), "'web' means missing and cannot be"),
        (
            lambda c: c["features"][3].update(nullable=False, missing=["?"]),
            "'missing' lists '?' but nullable is false",
        ),
        (lambda c: c["label"].update(column="amount"), "column 'amount' has more than one role"),
        (lambda c: c.update(ignore=["fraud"]), "column 'fraud' has more than one role"),
        (lambda c: c["decision"].update(review=0.9), "review 0.9 is above decline 0.8"),
        (
            lambda c: c.update(
                rules=[
                    {
                        "feature": "channel",
                        "op": ">",
                        "value": 1,
                        "decision": "decline",
                        "reason": "odd",
                    }
                ]
            ),
            "'channel' is not a numeric feature",
        ),
        (lambda c: c["example"].update(nowhere=1), "example: 'nowhere' is not a feature"),
        (lambda c: c["features"][0].update(dtype="decimal"), "features.0.dtype"),
        (lambda c: c.update(thresholds={}), "thresholds: Extra inputs are not permitted"),
        (lambda c: c.pop("label"), "label: Field required"),
    ],
)
def test_refuses_a_contract_that_contradicts_itself(
    edit: Callable[[dict[str, Any]], object], says: str
) -> None:
    with pytest.raises(ContractError) as caught:
        parse_contract(_edited(edit), "fraud.json")
    assert str(caught.value).startswith("fraud.json: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_time_column_may_also_be_a_feature() -> None:
    def use_time(contract: dict[str, Any]) -> None:
        contract["features"].append({"name": "when", "dtype": "float64"})

    assert "when" in parse_contract(_edited(use_time), "c").feature_names


def test_the_canonical_text_reads_back_as_the_same_contract() -> None:
    contract = tiny.contract()
    assert parse_contract(contract.canonical_json(), "c") == contract


def test_names_the_file_that_is_missing_empty_or_not_json(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="nowhere.json: cannot read"):
        load_contract(tmp_path / "nowhere.json")
    (tmp_path / "empty.json").write_text(" \n")
    with pytest.raises(FileError, match="empty.json: the contract file is empty"):
        load_contract(tmp_path / "empty.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ContractError, match="bad.json: not JSON"):
        load_contract(tmp_path / "bad.json")
