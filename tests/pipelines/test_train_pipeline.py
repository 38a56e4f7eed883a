"""The whole train pipeline through kfp.local, each step in its own environment."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from components.checked import read_checked
from components.scoring import model_scores, open_model
from components.tests.table import small_contract, small_table
from components.train.model import load_model, scores
from pipelines.local import STAGES, run_train, step_output
from serving.bundle import open_bundle
from serving.errors import ContractError, StageError


@pytest.fixture
def given(tmp_path: Path) -> tuple[Path, Path]:
    """A table and its contract, in a folder whose name a shell would split."""
    folder = tmp_path / "a table's folder"
    folder.mkdir()
    small_table(3000).to_parquet(folder / "table.parquet")
    (folder / "contract.json").write_text(small_contract().canonical_json())
    return folder / "table.parquet", folder / "contract.json"


@pytest.mark.usefixtures("drift_python")
def test_goes_from_a_table_to_a_bundle_and_shows_each_step(
    given: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[str, str]] = []
    folder = run_train(
        *given,
        tmp_path / "bundles",
        work=tmp_path / "work",
        parent="cd" * 32,
        window=(1.7e9 + 10, 1.7e9 + 2900),
        test_from=1.7e9 + 2000,
        family="network",
        epochs=1,
        drift_rows=600,
        drift_window=200,
        on_progress=lambda stage, state: seen.append((stage, state)),
    )
    assert seen == [(stage, state) for stage in STAGES for state in ("started", "finished")]
    assert capfd.readouterr() == ("", "")
    bundle = open_bundle(folder, contract=small_contract())
    assert folder.parent == tmp_path / "bundles"
    lineage = bundle.read_json("lineage.json")
    assert lineage["parent"] == "cd" * 32
    assert lineage["from"] == 1.7e9 + 10
    assert lineage["rows"]["test"] == 900
    assert bundle.read_json("drift/config.json")["windows"]["size"] == 200
    network = load_model(step_output(tmp_path / "work", "train", "network"))
    test = read_checked(step_output(tmp_path / "work", "validate", "checked")).part("test")
    served = model_scores(open_model(bundle.read("model.onnx")), test.columns)
    assert np.abs(served - scores(network, test.columns)).max() <= 1e-5
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["pipeline.log", "steps"]


@pytest.mark.usefixtures("drift_python")
def test_a_failing_step_is_named_with_its_one_sentence(
    given: tuple[Path, Path], tmp_path: Path
) -> None:
    table = small_table(300)
    table.loc[7, "amount"] = -1.0
    table.to_parquet(given[0])
    seen: list[tuple[str, str]] = []
    with pytest.raises(StageError) as failure:
        run_train(
            *given,
            tmp_path / "bundles",
            work=tmp_path / "work",
            on_progress=lambda stage, state: seen.append((stage, state)),
        )
    assert re.fullmatch(
        rf"step 'validate' failed: {re.escape(str(given[0]))}: feature 'amount': -1 in row 7;"
        r" the contract's minimum is 0",
        str(failure.value),
    )
    assert failure.value.exit_code == 1
    assert seen[-2:] == [("validate", "started"), ("validate", "failed")]
    assert not (tmp_path / "bundles").exists()


@pytest.mark.usefixtures("drift_python")
def test_a_missing_table_keeps_the_exit_code_of_a_usage_error(
    given: tuple[Path, Path], tmp_path: Path
) -> None:
    given[0].unlink()
    with pytest.raises(StageError, match="there is no such file") as failure:
        run_train(*given, tmp_path / "bundles", work=tmp_path / "work")
    assert failure.value.exit_code == 2


def test_a_contradictory_contract_is_refused_before_anything_runs(
    given: tuple[Path, Path], tmp_path: Path
) -> None:
    given[1].write_text('{"name": "x"}')
    with pytest.raises(ContractError, match=r"contract\.json: features"):
        run_train(*given, tmp_path / "bundles", work=tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_missing_environment_is_named(given: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"image 'seatrial/drift': its environment .*nowhere"):
        run_train(
            *given,
            tmp_path / "bundles",
            work=tmp_path / "work",
            images={"seatrial/drift": Path("/nowhere/python")},
        )


RUN = """
import sys
from pathlib import Path
from pipelines.local import run_train
table, contract, folder = map(Path, sys.argv[1:4])
epochs = int(sys.argv[4])
run_train(table, contract, folder / "bundles", work=folder / "work", epochs=epochs, patience=epochs,
          family="network", drift_rows=300, drift_window=40,
          on_progress=lambda stage, state: print(stage, state, flush=True))
"""
LONG, SHORT = "5000", "1"


def until(line: str, given: tuple[Path, Path], folder: Path, epochs: str) -> subprocess.Popen[str]:
    """A process of a train pipeline that has just printed `line`."""
    arguments = [sys.executable, "-c", RUN, *map(str, given), str(folder), epochs]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for printed in process.stdout:
        if printed == line + "\n":
            break
    return process


@pytest.fixture
def training(given: tuple[Path, Path], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of a long training step."""
    process = until("train started", given, tmp_path, LONG)
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


@pytest.mark.usefixtures("drift_python")
def test_a_killed_run_goes_on_after_its_last_finished_step(
    given: tuple[Path, Path], tmp_path: Path
) -> None:
    small_table(600).to_parquet(given[0])
    end(until("evaluate started", given, tmp_path, SHORT))
    seen: list[tuple[str, str]] = []
    folder = run_train(
        *given,
        tmp_path / "bundles",
        work=tmp_path / "work",
        family="network",
        epochs=1,
        patience=1,
        drift_rows=300,
        drift_window=40,
        on_progress=lambda stage, state: seen.append((stage, state)),
    )
    done = dict(seen)
    assert {stage for stage, state in done.items() if state == "reused"} == {*STAGES[:4]}
    assert {stage for stage, state in done.items() if state == "finished"} == {*STAGES[4:]}
    assert open_bundle(folder).digest
    assert [path.name for path in (tmp_path / "bundles").glob(".*")] == []


@pytest.mark.usefixtures("drift_python")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_leaves_no_process(
    training: subprocess.Popen[str], how: signal.Signals
) -> None:
    children = psutil.Process(training.pid).children(recursive=True)
    assert len(children) >= 3
    os.kill(training.pid, how)
    _, left = psutil.wait_procs(children, timeout=5)
    assert left == []


@pytest.mark.usefixtures("drift_python")
def test_a_step_that_is_killed_fails_the_run(
    given: tuple[Path, Path], training: subprocess.Popen[str], tmp_path: Path
) -> None:
    deadline = time.monotonic() + 20
    steps: list[psutil.Process] = []
    while not steps and time.monotonic() < deadline:
        children = psutil.Process(training.pid).children(recursive=True)
        steps = [c for c in children if "kfp.dsl.executor_main" in c.cmdline()[1:3]]
    steps[0].kill()
    assert training.wait(timeout=20) != 0
    assert not (tmp_path / "bundles").exists()
