"""A component, its core function and its command take the same arguments."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from components.tests.table import small_contract, small_table

NAMES = (
    *("ingest", "validate", "trial", "train", "export", "evaluate", "bundle"),
    *("register", "deploy", "promote", "batch_score"),
)
FOR_THE_INTERFACE = {
    "learning",
    "quality",
    "roc",
    "at_review",
    "at_decline",
    "report",
    "counts",
    "Output",
}
"""Outputs that exist only to be shown."""


@pytest.mark.parametrize("name", NAMES)
def test_component_and_core_agree_on_names_and_defaults(name: str) -> None:
    component = getattr(importlib.import_module(f"components.{name}.component"), name)
    run = importlib.import_module(f"components.{name}.core").run
    interface = component.component_spec
    outputs = set(interface.outputs or {}) - FOR_THE_INTERFACE
    parameters = inspect.signature(run).parameters
    assert set(interface.inputs) | outputs == set(parameters)
    for key, given in interface.inputs.items():
        default = parameters[key].default
        if default is inspect.Parameter.empty:
            assert not given.optional
        else:
            # A component's empty list is an empty text on the command line.
            assert ("" if given.default == [] else given.default) == (
                "" if default is None else default
            )


@pytest.mark.parametrize("name", NAMES)
def test_component_imports_only_kfp_at_its_top(name: str) -> None:
    source = Path(__file__).parents[1] / name / "component.py"
    top = [line for line in source.read_text().splitlines() if line.startswith(("import", "from"))]
    assert top
    assert all("kfp" in line for line in top)


def test_the_command_does_the_steps_work_and_prints_its_facts(tmp_path: Path) -> None:
    small_table(500).to_csv(tmp_path / "table.csv", index=False)
    (tmp_path / "contract.json").write_text(small_contract().canonical_json())
    done = command(tmp_path, "--test_fraction", "0.5")
    assert done.returncode == 0
    assert json.loads(done.stdout)["rows"]["test"] == 250
    assert (tmp_path / "checked" / "rows.parquet").exists()


def test_the_command_ends_with_one_line_and_the_errors_exit_code(tmp_path: Path) -> None:
    (tmp_path / "contract.json").write_text(small_contract().canonical_json())
    done = command(tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    missing = tmp_path / "table.csv"
    assert done.stderr == f"error: {missing}: there is no such file; give the path of a table\n"


def command(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    options = {"table": "table.csv", "contract": "contract.json", "checked": "checked"}
    given = [part for k, v in options.items() for part in (f"--{k}", str(folder / v))]
    return subprocess.run(
        [sys.executable, "-m", "components.validate", *given, *more],
        capture_output=True,
        text=True,
        check=False,
    )
