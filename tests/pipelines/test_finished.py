"""Steps are done once: by the content of their inputs, whatever ended the run before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.finished import keep, key_of, recall

PYTHON = Path("/environment/bin/python")


def request(
    folder: Path, table: Path, *, rows: int = 5, text: str = "outputs", out: str = "bundles"
) -> dict[str, Any]:
    """kfp's executor input of a step that reads `table`, and the outputs it wrote."""
    source = folder / "source"
    source.mkdir(parents=True, exist_ok=True)
    (source / "data").write_text("rows")
    root = folder / "step"
    root.mkdir(exist_ok=True)
    (root / "made").write_text(text)
    (root / "executor_output.json").write_text(json.dumps({"uri": str(root / "made")}))
    return {
        "inputs": {
            "parameterValues": {"table": str(table), "rows": rows, "out": out},
            "artifacts": {"source": {"artifacts": [{"uri": str(source)}]}},
        },
        "outputs": {"outputFile": str(root / "executor_output.json")},
    }


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "table.csv").write_text("a\n1\n")
    return tmp_path / "table.csv"


def test_equal_inputs_elsewhere_give_the_same_key(tmp_path: Path, table: Path) -> None:
    copy = tmp_path / "copy.csv"
    copy.write_bytes(table.read_bytes())
    keys = [
        key_of("validate", PYTHON, request(tmp_path / name, which))
        for name, which in (("a", table), ("b", copy))
    ]
    assert keys[0] == keys[1]


def test_a_changed_file_parameter_artifact_or_step_gives_another(
    tmp_path: Path, table: Path
) -> None:
    given = request(tmp_path / "a", table)
    keys = {key_of("validate", PYTHON, given), key_of("train", PYTHON, given)}
    keys.add(key_of("validate", PYTHON, request(tmp_path / "a", table, rows=6)))
    (tmp_path / "a" / "source" / "data").write_text("others")
    keys.add(key_of("validate", PYTHON, given))
    table.write_text("a\n2\n")
    keys.add(key_of("validate", PYTHON, given))
    assert len(keys) == 5


def test_outputs_come_back_whole_and_tell_their_new_place(tmp_path: Path, table: Path) -> None:
    before, after = request(tmp_path / "a", table), request(tmp_path / "b", table, text="half")
    keep(tmp_path / "store", "key", before)
    assert recall(tmp_path / "store", "key", after)
    assert (tmp_path / "b/step/made").read_text() == "outputs"
    for name in ("a", "b"):
        told = json.loads((tmp_path / name / "step/executor_output.json").read_text())
        assert told == {"uri": str(tmp_path / name / "step/made")}


def test_outputs_that_were_changed_or_removed_are_not_used_again(
    tmp_path: Path, table: Path
) -> None:
    before, after = request(tmp_path / "a", table), request(tmp_path / "b", table)
    assert not recall(tmp_path / "store", "key", after)
    keep(tmp_path / "store", "key", before)
    (tmp_path / "a/step/made").write_text("altered")
    assert not recall(tmp_path / "store", "key", after)
    (tmp_path / "a/step/made").unlink()
    assert not recall(tmp_path / "store", "key", after)
