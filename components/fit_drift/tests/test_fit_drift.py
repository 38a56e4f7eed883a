from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from components.fit_drift import core
from components.fit_drift.component import fit_drift as component
from components.fit_drift.core import Trial, fit_drift, read_rows, try_detector
from serving.drift.config import DriftConfig, parse_config
from serving.drift.detector import ScriptedDetector, TestResult
from serving.drift.encoding import Encoder
from serving.drift.watch import Watch, WatchSettings
from serving.errors import DataError, FileError, StageError
from serving.policy import decide
from tests.support import tiny

CLEAN = TestResult("amount", "feature", "values", "ks", 0.5, 0.03)
DRIFT = TestResult("amount", "feature", "values", "ks", 1e-9, 0.4)


def arrays(count: int, seed: int = 0, **changes: Any) -> dict[str, Any]:
    rows = tiny.rows(count, seed)
    score = tiny.expected_scores(rows)
    stored = {n: c.astype("U") if c.dtype == object else c for n, c in rows.items()}
    return {**stored, "score": score, **changes}


def save(path: Path, columns: dict[str, Any]) -> Path:
    with path.open("wb") as handle:
        np.savez(handle, **columns)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return save(tmp_path / "rows", arrays(6000))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that finds nothing, in place of Alibi's, which this environment lacks."""
    monkeypatch.setattr(core, "build_detector", lambda *_: ScriptedDetector((CLEAN,)))


def contract_file(folder: Path) -> Path:
    path = folder / "contract.json"
    path.write_text(tiny.contract().canonical_json())
    return path


def in_drift_environment(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def load(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.mark.usefixtures("scripted")
def test_the_reference_is_a_sample_of_whole_rows_in_time_order(data: Path, tmp_path: Path) -> None:
    fit_drift(data, tiny.contract(), tmp_path / "out", rows=1000)
    reference, rows = load(tmp_path / "out" / "reference.npz"), load(data)
    assert list(reference) == ["amount", "age", "visits", "channel", "score", "decision"]
    assert [reference[n].dtype.kind for n in reference] == ["f", "f", "i", "U", "f", "U"]
    where = {amount: i for i, amount in enumerate(rows["amount"].tolist())}
    positions = [where[amount] for amount in reference["amount"].tolist()]
    assert len(positions) == 1000
    assert positions == sorted(set(positions))
    for name in rows:
        np.testing.assert_array_equal(reference[name], rows[name][positions])
    decided = decide(tiny.contract(), rows, rows["score"]).decisions[positions]
    assert reference["decision"].tolist() == decided.tolist()


@pytest.mark.usefixtures("scripted")
def test_equal_arguments_give_equal_bytes_and_another_seed_others(
    data: Path, tmp_path: Path
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        fit_drift(data, tiny.contract(), tmp_path / name, rows=1000, seed=seed)
    a, b, c = (
        [(tmp_path / name / file).read_bytes() for file in ("reference.npz", "config.json")]
        for name in "abc"
    )
    assert a == b
    assert a[0] != c[0]


@pytest.mark.usefixtures("scripted")
def test_keeps_half_of_a_small_table_for_the_trial(data: Path, tmp_path: Path) -> None:
    trial = fit_drift(data, tiny.contract(), tmp_path / "out", rows=5000).trial
    assert trial is not None
    assert len(load(tmp_path / "out" / "reference.npz")["score"]) == 3000
    assert (trial.windows, trial.consecutive_windows) == (6, 12)


def test_a_detector_that_calls_everything_drift_fails_the_step(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "build_detector", lambda *_: ScriptedDetector((DRIFT,)))
    with pytest.raises(StageError, match="6 of 6 windows of held-out rows"):
        fit_drift(data, tiny.contract(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_remembers_the_largest_effect_of_consecutive_windows_only() -> None:
    detector = ScriptedDetector((DRIFT,), (CLEAN,), (CLEAN,), (CLEAN,))
    trial = try_detector(detector, np.zeros((60, 1)), np.arange(40), 0.05, 20)
    assert trial == Trial(2, 0.5, 3, 0.0, {"amount": {"values": 0.03}})


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({k: v[:0] for k, v in arrays(5).items()}, "there are no rows"),
        (arrays(900), "reference of 450 rows"),
        ({k: v for k, v in arrays(2000).items() if k != "score"}, "'score' is missing"),
        ({k: v for k, v in arrays(2000).items() if k != "age"}, "'age' is missing"),
        (arrays(2000, extra=np.zeros(2000)), "'extra' is not in the contract"),
        (arrays(2000, score=np.full(2000, np.nan)), "'score' must be 2000 finite floats"),
        (arrays(2000, score=np.zeros(7)), "'score' must be 2000 finite floats"),
        (arrays(2000, amount=np.full(2000, "x")), "'amount' has type <U1"),
    ],
)
def test_names_what_is_wrong_with_the_rows(
    columns: dict[str, Any], named: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=named):
        fit_drift(save(tmp_path / "rows", columns), tiny.contract(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_a_file_that_is_no_archive_of_arrays(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="absent"):
        read_rows(tmp_path / "absent", tiny.contract())
    (tmp_path / "text").write_text("amount,age\n")
    with pytest.raises(FileError, match="text"):
        read_rows(tmp_path / "text", tiny.contract())


def test_the_real_detector_takes_held_out_rows_for_clean(
    drift_python: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = in_drift_environment(
        drift_python,
        *("-m", "components.fit_drift", "--data", str(data), "--drift", str(out)),
        *("--contract", str(contract_file(tmp_path)), "--window", "100", "--rows", "2000"),
    )
    assert ended.returncode == 0, ended.stderr
    config = parse_config((out / "config.json").read_text(), "config.json")
    assert config.windows is not None
    tests = config.windows
    assert (tests.detector, tests.p_value, tests.size) == ("tabular", 0.05, 100)
    assert config.features == ("amount", "age", "visits", "channel")
    assert config.trial["windows"] == 40
    assert config.trial["false_positive_rate"] <= 0.1
    assert 0 < tests.usual["amount"]["values"] < 0.25
    assert set(tests.usual) == {"amount", "age", "visits", "channel", "score", "decision"}


def test_the_real_detector_finds_rows_that_change_through_the_day_unusual_by_themselves(
    drift_python: Path, tmp_path: Path
) -> None:
    hour = 5000 + 4000 * np.sin(np.arange(6000) / 100)
    data = save(tmp_path / "rows", arrays(6000, amount=hour))
    out = tmp_path / "out"
    ended = in_drift_environment(
        drift_python,
        *("-m", "components.fit_drift", "--data", str(data), "--drift", str(out)),
        *("--contract", str(contract_file(tmp_path)), "--window", "200"),
    )
    assert ended.returncode == 0, ended.stderr
    config = parse_config((out / "config.json").read_text(), "config.json")
    assert config.windows is not None
    assert config.trial["false_positive_rate"] <= 0.2
    assert config.trial["consecutive_alarm_rate"] > 0.9
    assert config.windows.usual["amount"]["values"] > 0.4
    assert config.windows.usual["visits"]["values"] < 0.2


def seasonal(path: Path) -> Path:
    """Rows whose amount changes through the day: no row by itself is unusual."""
    day = np.sin(np.arange(20_000) / 400)
    amount = np.random.default_rng(1).normal(5000 + 700 * day, 700).clip(0)
    return save(path, arrays(20_000, amount=amount))


def watched(out: Path) -> tuple[Watch, Encoder, DriftConfig]:
    config = parse_config((out / "config.json").read_text(), "config.json")
    assert config.watch is not None
    arrays = load(out / "reference.npz")
    encoder = Encoder(tiny.contract(), config.features or (), score=True, decision=True)
    score, decision = arrays.pop("score"), arrays.pop("decision")
    settings = WatchSettings(tolerance=config.watch.tolerance)
    return (
        Watch(encoder.columns, encoder.encode(arrays, score, decision), settings),
        encoder,
        config,
    )


def test_the_watch_learns_the_training_periods_days_and_still_finds_a_shift(tmp_path: Path) -> None:
    rows = load(seasonal(tmp_path / "rows"))
    fit_drift(tmp_path / "rows", tiny.contract(), tmp_path / "out", detector="none")
    watch, encoder, config = watched(tmp_path / "out")
    assert config.windows is None
    assert config.watch is not None
    assert "location" in config.watch.tolerance["amount"]
    assert config.trial["watch_evidence"] < watch.threshold
    decided = decide(tiny.contract(), rows, rows["score"]).decisions
    score = rows.pop("score")
    assert not watch.observe(encoder.encode(rows, score, decided)).crossed
    untaught = Watch(encoder.columns, encoder.encode(rows, score, decided), WatchSettings())
    assert untaught.observe(encoder.encode(rows, score, decided)).crossed
    watch.restart()
    rows["amount"] += 2500
    assert watch.observe(encoder.encode(rows, score, decided)[:2000]).crossed
    assert watch.findings()[0].column == "amount"


def test_the_watch_alone_needs_no_alibi_detect(data: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="'tabular' needs Alibi Detect"):
        fit_drift(data, tiny.contract(), tmp_path / "out")
    fitted = fit_drift(data, tiny.contract(), tmp_path / "out", detector="none")
    assert fitted.trial is None
    assert set(json.loads((tmp_path / "out" / "config.json").read_text())) == {
        *("features", "trial", "watch"),
    }


@pytest.mark.usefixtures("scripted")
def test_the_watch_can_be_off(data: Path, tmp_path: Path) -> None:
    fit_drift(data, tiny.contract(), tmp_path / "out", watch=False)
    assert parse_config((tmp_path / "out" / "config.json").read_text(), "config").watch is None
    with pytest.raises(DataError, match="at least one"):
        fit_drift(data, tiny.contract(), tmp_path / "none", watch=False, detector="none")
    with pytest.raises(DataError, match="'best' is unknown; give one of tabular, ks"):
        fit_drift(data, tiny.contract(), tmp_path / "none", detector="best")


def test_the_command_names_what_is_wrong_and_exits_2(drift_python: Path, tmp_path: Path) -> None:
    ended = in_drift_environment(
        drift_python,
        *("-m", "components.fit_drift", "--data", str(tmp_path / "absent")),
        *("--contract", str(contract_file(tmp_path)), "--drift", str(tmp_path / "out")),
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {tmp_path / 'absent'}: cannot read")


def test_the_component_runs_in_its_image_by_kfps_own_executor(
    drift_python: Path, data: Path, tmp_path: Path
) -> None:
    """What kfp runs in a container: its command, with the drift environment's python3 on PATH."""
    out = tmp_path / "drift"
    inputs = {
        "inputs": {
            "parameterValues": {
                "contract": tiny.contract().canonical_json(),
                "rows": 2000,
                "p_value": 0.05,
                "window": 100,
                "seed": 0,
                "detector": "tabular",
                "watch": True,
            },
            "artifacts": {"data": {"artifacts": [artifact("data", data, "Dataset")]}},
        },
        "outputs": {
            "artifacts": {"drift": {"artifacts": [artifact("drift", out, "Artifact")]}},
            "outputFile": str(tmp_path / "executor_output.json"),
        },
    }
    container = component.component_spec.implementation.container
    arguments = [a.replace("{{$}}", json.dumps(inputs)) for a in container.args]
    ended = subprocess.run(
        [*container.command, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PATH": f"{drift_python.parent}:{os.environ['PATH']}"},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert load(out / "reference.npz")["score"].shape == (2000,)
    told = json.loads((tmp_path / "executor_output.json").read_text())
    metadata = told["artifacts"]["drift"]["artifacts"][0]["metadata"]
    assert 0 <= metadata["false_positive_rate"] <= 0.1


def artifact(name: str, path: Path, kind: str) -> dict[str, Any]:
    return {
        "name": name,
        "uri": str(path),
        "type": {"schemaTitle": f"system.{kind}", "schemaVersion": "0.0.1"},
        "metadata": {},
    }


def test_the_component_declares_its_image_and_installs_nothing() -> None:
    container = component.component_spec.implementation.container
    assert container.image == "seatrial/drift:0.1.0"
    assert not any("pip install" in part for part in container.command)


@pytest.mark.usefixtures("scripted")
def test_the_components_function_gives_what_core_gives(data: Path, tmp_path: Path) -> None:
    class Folder:
        path = str(tmp_path / "by_component")
        metadata: dict[str, Any] = {}  # noqa: RUF012

    class Rows:
        path = str(data)

    component.python_func(
        data=Rows(), contract=tiny.contract().canonical_json(), drift=Folder(), rows=1000
    )
    fitted = fit_drift(data, tiny.contract(), tmp_path / "by_core", rows=1000)
    for name in ("reference.npz", "config.json"):
        by_component = (tmp_path / "by_component" / name).read_bytes()
        assert by_component == (tmp_path / "by_core" / name).read_bytes()
    assert Folder.metadata == fitted.figures()
