"""The command line on bad input: one sentence, the right exit code, nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from seatrial.cli import cli
from tests.support import tiny

TEXT = ["web", "shop", "phone", ""]


def seatrial(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "seatrial", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def table(rows: int = 400) -> pd.DataFrame:
    columns = tiny.rows(rows)
    scores = tiny.expected_scores(columns)
    return pd.DataFrame(
        {**columns, "fraud": (scores > np.median(scores)).astype(int), "when": np.arange(rows)}
    )


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    file = tmp_path / "contract.json"
    file.write_text(json.dumps(tiny.CONTRACT))
    return file


def _no_column(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns="age")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_no_column, "column 'age' is missing"),
        (lambda f: f.assign(colour="red"), "column 'colour' is not in the contract"),
        (lambda f: f.assign(amount="much"), "column 'amount'"),
        (lambda f: f.assign(channel="fax"), "'fax'"),
        (lambda f: f.assign(amount=np.nan), "feature 'amount': a missing value"),
        (lambda f: f.assign(amount=-5.0), "feature 'amount': -5"),
        (lambda f: f.assign(fraud=1), "fraud"),
        (lambda f: f.iloc[:0], "no rows"),
    ],
    ids=["missing", "extra", "type", "category", "nan", "range", "one class", "no rows"],
)
def test_train_names_the_file_the_field_and_the_value(
    tmp_path: Path,
    contract: Path,
    spoil: Callable[[pd.DataFrame], pd.DataFrame],
    says: str,
) -> None:
    data = tmp_path / "table.parquet"
    spoil(table()).to_parquet(data)
    done = seatrial(
        *("train", "--data", data, "--contract", contract),
        *("--out", tmp_path / "bundles", "--work", tmp_path / "work", "--quiet"),
    )
    assert done.returncode == 1
    assert says in done.stderr
    assert str(data) in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "bundles").exists()


def test_a_missing_file_and_a_wrong_contract_are_usage_errors(
    tmp_path: Path, contract: Path
) -> None:
    out = ("--out", tmp_path / "bundles", "--work", tmp_path / "work", "--quiet")
    nowhere = tmp_path / "nowhere.parquet"
    done = seatrial("train", "--data", nowhere, "--contract", contract, *out)
    assert (done.returncode, str(nowhere) in done.stderr) == (2, True)
    contract.write_text(json.dumps({**tiny.CONTRACT, "decision": {"review": 1, "decline": 0.5}}))
    done = seatrial("train", "--data", nowhere, "--contract", contract, *out)
    assert done.returncode == 2
    assert done.stderr == f"error: {contract}: decision: review 1 is above decline 0.5\n"
    assert not (tmp_path / "bundles").exists()


def test_bundle_refuses_an_altered_one_and_one_of_another_contract(
    tmp_path: Path, contract: Path
) -> None:
    bundle = tiny.tiny_bundle(tmp_path)
    assert seatrial("bundle", bundle.path, "--contract", contract).returncode == 0
    contract.write_text(json.dumps({**tiny.CONTRACT, "name": "other"}))
    done = seatrial("bundle", bundle.path, "--contract", contract)
    assert (done.returncode, "not for the given 'other'" in done.stderr) == (1, True)
    (bundle.path / "model.onnx").write_bytes(b"")
    done = seatrial("bundle", bundle.path)
    assert (done.returncode, "the file was altered" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("apiVersion: v1\nkind: Gadget\nmetadata: {name: x}\n", "Gadget"),
        (
            (
                "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\n"
                "metadata: {name: x}\nspec: {predictor: {modle: {}}}\n"
            ),
            "modle",
        ),
        ("", "empty"),
    ],
    ids=["kind", "field", "empty"],
)
def test_up_and_check_refuse_a_manifest_no_cluster_would_take(
    tmp_path: Path, document: str, says: str
) -> None:
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(document)
    for command in (("check", manifest), ("up", manifest, "--state", tmp_path / "state")):
        done = seatrial(*command)
        assert done.returncode == 2
        assert says in done.stderr
        assert str(manifest) in done.stderr
    assert not (tmp_path / "state" / "state.json").exists()


def test_unknown_options_are_usage_errors() -> None:
    assert seatrial("demo", "--data", "x").returncode == 2
    assert seatrial("simulate", "--out", "x", "--inject", "rain@3").returncode == 2
    assert seatrial("launch").returncode == 2


def test_every_command_has_help() -> None:
    shown = seatrial("--help").stdout
    listed: list[Any] = [line.split()[0] for line in shown.split("Commands:")[1].splitlines()[1:]]
    assert {"demo", "train", "up", "apply", "status", "logs", "down"} <= set(listed)
    for command in listed:
        found = CliRunner().invoke(cli, [command, "--help"])
        assert found.exit_code == 0, command
        assert found.output.lower().startswith("usage:"), command
