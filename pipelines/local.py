"""Pipelines on one machine: kfp.local, each component in its image's environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Literal

import pipelines
import serving.errors
from pipelines.interpreter import MARK
from serving.bundle import load_contract
from serving.errors import SeatrialError, StageError

STAGES = ("ingest", "validate", "train", "export", "evaluate", "fit_drift", "bundle")
"""The steps of the train pipeline."""
State = Literal["started", "finished", "reused", "failed"]
Progress = Callable[[str, State], None]
CHECKOUT = Path(next(iter(pipelines.__path__))).resolve().parent


def interpreters() -> dict[str, Path]:
    """The Python that stands for each image: this one, and that of .venv-drift in the checkout."""
    return {
        "seatrial/pipelines": Path(sys.executable),
        "seatrial/drift": CHECKOUT / ".venv-drift" / "bin" / "python",
    }


def run_train(
    table: Path,
    contract: Path,
    out: Path,
    *,
    work: Path,
    parent: str | None = None,
    champion: Path | None = None,
    seed: int = 0,
    window: tuple[float | None, float | None] | None = None,
    test_from: float | None = None,
    validation_fraction: float = 0.15,
    test_fraction: float = 0.2,
    family: str = "auto",
    epochs: int = 10,
    patience: int = 3,
    drift_rows: int = 5000,
    drift_window: int = 500,
    images: Mapping[str, Path] | None = None,
    on_progress: Progress = lambda stage, state: None,
) -> Path:
    """Runs the train pipeline; returns the bundle's folder.

    `champion` is a bundle to compare rows and model with. `window` keeps rows with
    from <= time < to; an open end is None. `work` gets the steps' outputs
    and pipeline.log; each run has its own folder of outputs there. `on_progress` is called with a
    name of STAGES. The pipeline's processes end with this call, however it ends, and with this
    process.

    Raises FileError or ContractError for the contract, and StageError naming the step that failed;
    its exit code is that of the step's own error.
    """
    window_from, window_to = window or (None, None)
    arguments = {
        "table": str(table.resolve()),
        "contract": load_contract(contract).canonical_json(),
        "out": str(out.resolve()),
        "parent": parent or "",
        "champion": "" if champion is None else str(champion.resolve()),
        "seed": seed,
        "window_from": _text(window_from),
        "window_to": _text(window_to),
        "test_from": _text(test_from),
        "validation_fraction": validation_fraction,
        "test_fraction": test_fraction,
        "family": family,
        "epochs": epochs,
        "patience": patience,
        "drift_rows": drift_rows,
        "drift_window": drift_window,
    }
    return Path(run("train", arguments, work=work, images=images, on_progress=on_progress))


def run(
    pipeline: str,
    arguments: Mapping[str, Any],
    *,
    work: Path,
    images: Mapping[str, Path] | None = None,
    on_progress: Progress = lambda stage, state: None,
) -> str:
    """Runs a pipeline by its name, such as train or batch-score, and returns its output.

    Steps that an earlier run below the same `work` finished with equal inputs are not run again.
    Raises StageError naming the step that failed.
    """
    chosen = {**interpreters(), **(images or {})}
    for image, python in chosen.items():
        if not python.exists():
            raise StageError(
                f"image '{image}': its environment {python} does not exist; run 'make environments'"
            )
    work.mkdir(parents=True, exist_ok=True)
    log_file = work / "pipeline.log"
    scratch = Path(tempfile.mkdtemp(prefix="scratch-", dir=work.resolve()))
    try:
        request = scratch / "request.json"
        request.write_text(
            json.dumps(
                {
                    "pipeline": pipeline,
                    "arguments": arguments,
                    "root": str((work / "steps").resolve()),
                    "interpreters": {name: str(python) for name, python in chosen.items()},
                }
            ),
            "utf-8",
        )
        with log_file.open("w", encoding="utf-8") as log:
            return _watch(pipeline, request, scratch, log, on_progress)
    except StageError as error:
        # The steps after ingest know the table by its copy only.
        copy = rf"{re.escape(str((work / 'steps').resolve()))}/[^/]+/ingest/table(/table\.parquet)?"
        table = str(arguments.get("table", ""))
        named = StageError(re.sub(copy, lambda _: table, str(error)))
        named.exit_code = error.exit_code
        raise named from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def step_output(work: Path, step: str, output: str) -> Path:
    """The newest `output` of a step below a run's `work`, such as ("train", "network").

    Raises StageError when no run there got so far.
    """
    found = sorted(
        (work / "steps").glob(f"*-*/{step.replace('_', '-')}/{output}"),
        key=lambda path: path.parents[1].name[-len("2026-01-31-23-59-59-000000") :],
    )
    if not found:
        raise StageError(f"{work}: no output '{output}' of step '{step}'; run the pipeline first")
    return found[-1]


def _text(moment: float | None) -> str:
    return "" if moment is None else repr(float(moment))


def _watch(
    pipeline: str,
    request: Path,
    scratch: Path,
    log: IO[str],
    on_progress: Progress,
) -> str:
    environment = {
        **os.environ,
        "TMPDIR": str(scratch),
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",  # a folder named like a package of ours, where the user stands
    }
    log_file = Path(log.name)
    failure: dict[str, Any] | None = None
    result: str | None = None
    worker = subprocess.Popen(
        [sys.executable, "-m", "pipelines.worker", str(request), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    )
    try:
        for line in worker.stdout or ():
            before, marked, fact_text = line.partition(MARK)
            if not marked or before.strip():
                log.write(line)
                log.flush()
                continue
            fact = json.loads(fact_text)
            if "result" in fact:
                result = fact["result"]
                continue
            failure = fact if fact["state"] == "failed" else failure
            on_progress(fact["stage"], fact["state"])
        status = worker.wait()
    finally:
        worker.kill()
        worker.wait()
        if worker.stdout:
            worker.stdout.close()
    if failure is not None:
        raise _stage_error(failure, log_file)
    if status != 0 or result is None:
        raise StageError(f"the {pipeline} pipeline ended with exit status {status}; see {log_file}")
    return result


def _stage_error(failure: Mapping[str, str], log_file: Path) -> StageError:
    name = failure["kind"].rpartition(".")[2]
    kind = getattr(serving.errors, name, None)
    ours = isinstance(kind, type) and issubclass(kind, SeatrialError)
    if ours:
        error = StageError(f"step '{failure['stage']}' failed: {failure['error']}")
        error.exit_code = kind.exit_code  # type: ignore[union-attr]
        return error
    what = f"{name}: {failure['error']}" if name else failure["error"]
    return StageError(f"step '{failure['stage']}' failed: {what}; see {log_file}")
