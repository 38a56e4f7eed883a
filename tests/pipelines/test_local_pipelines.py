"""Retrain, tune, promote and batch-score through kfp.local, as train is elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.tests.table import small_contract, small_table
from pipelines.local import STAGES, run, step_output
from serving.bundle import open_bundle
from serving.local.client import LocalPlayer
from serving.rollout import read_rollout
from tests.serving.local.deploy import Deploy
from tests.support import tiny
from tests.support.sender import Sender


@pytest.mark.usefixtures("drift_python")
def test_retrain_makes_a_bundle_of_the_newest_rows_the_registered_canary(tmp_path: Path) -> None:
    small_table(6500).to_parquet(tmp_path / "table.parquet")
    deploy = Deploy(tmp_path / "deploy").rollout("v1")
    seen: list[str] = []
    path = run(
        "retrain",
        {
            "event_id": "drift-7",
            "table": str(tmp_path / "table.parquet"),
            "contract": small_contract().canonical_json(),
            "out": str(tmp_path / "bundles"),
            "registry": f"sqlite:///{tmp_path / 'registry.db'}",
            "folder": str(deploy),
            "newest": 6400.0,
            "family": "logistic",
        },
        work=tmp_path / "work",
        on_progress=lambda stage, state: seen.append(stage) if state == "finished" else None,
    )
    assert seen == [*STAGES, "register", "deploy"]
    bundle = open_bundle(Path(path))
    assert bundle.read_json("lineage.json")["from"] == 1.7e9 + 6499 - 6400
    attestation = json.loads(Path(f"{path}.attestation.json").read_text())
    assert attestation["run"] == "drift-7"
    state = read_rollout(deploy)
    (canary,) = state.canaries
    assert canary.arm.storage_uri == f"pvc://seatrial-bundles/small/{bundle.path.name}"
    assert (state.stable.name, canary.weight) == ("v1", 0)


class Enough(Exception):
    """What a test wanted to see has happened; the steps after it are those of train."""


def test_tune_trains_with_the_better_of_trials_that_ran_side_by_side(tmp_path: Path) -> None:
    small_table(600).to_parquet(tmp_path / "table.parquet")
    seen: list[str] = []

    def watch(stage: str, state: str) -> None:
        seen.append(stage) if state == "finished" else None
        if seen[-1:] == ["train"]:
            raise Enough

    given = {
        "table": str(tmp_path / "table.parquet"),
        "contract": small_contract().canonical_json(),
        "out": str(tmp_path / "bundles"),
        "family": "tree",
        "trials": [3, 4],
        "folds": 2,
    }
    with pytest.raises(Enough):
        run("tune", given, work=tmp_path / "work", on_progress=watch)
    assert seen == ["ingest", "validate", "trial", "trial", "train"]
    folder = step_output(tmp_path / "work", "train", "network")
    used = json.loads((folder / "training.json").read_text())["settings"]["tree"]
    told = (tmp_path / "work" / "steps").glob("tune-*/*/trial/executor_output.json")
    returned = [json.loads(file.read_text())["parameterValues"]["Output"] for file in told]
    found = [json.loads(text) for text in returned]
    best = max(found, key=lambda one: float(one["average_precision"]))
    assert used["leaves"] == best["settings"]["leaves"]
    assert found[0]["settings"]["leaves"] != found[1]["settings"]["leaves"]


@dataclass
class Site:
    """v1 played for real; v2's bundle lies ready."""

    deploy: Deploy
    player: LocalPlayer


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    deploy, player = Deploy(tmp_path / "deploy"), LocalPlayer(tmp_path / "state")
    for name in ("v1", "v2"):
        deploy.bundle(name)
    try:
        player.up(deploy.rollout("v1"))
        yield Site(deploy, player)
    finally:
        player.down()


@pytest.mark.timeout(240)
def test_promote_lists_the_canary_and_leads_it_on_the_player(site: Site, tmp_path: Path) -> None:
    plan = {
        "format": "seatrial.rollout/1",
        "canary": "any",
        "steps": [50, 100],
        "metrics": [{"kind": "errors", "max_rate": 0.01}],
        "min_seconds": 0.0,
        "min_requests": 10,
        "look_seconds": 0.2,
        "cleanup_seconds": 0.0,
        "time_cap_seconds": 60.0,
    }
    (site.deploy.path / "plan.yaml").write_text(json.dumps(plan))
    given = {"folder": str(site.deploy.path), "uri": "pvc://bundles/v2", "mode": "folder"}
    where = {"actuator": "local", "state_dir": str(site.player.state_dir)}
    with Sender(site.deploy.gateway, tmp_path / "answers.jsonl"):
        assert run("promote", {**given, **where}, work=tmp_path / "work") == "promoted"
    status = site.player.status()
    (serving,) = (one for one in status.arms if status.weights[one.name] == 100)
    assert serving.ready
    assert read_rollout(site.deploy.path).stable.storage_uri == "pvc://bundles/v2"


def test_batch_scores_workers_leave_one_answer_for_each_row_in_order(tmp_path: Path) -> None:
    bundle = tiny.tiny_bundle(tmp_path / "bundles")
    columns = {name: pa.array(column) for name, column in tiny.rows(1000).items()}
    table = pa.table({**columns, "when": np.arange(1000), "id": np.arange(1000) * 7})
    pq.write_table(table, tmp_path / "table.parquet")
    given = {"table": str(tmp_path / "table.parquet"), "bundle": str(bundle.path), "keep": "id"}
    more = {"out": str(tmp_path / "answers"), "shard_rows": 150}
    out = run("batch-score", {**given, **more}, work=tmp_path / "work")
    answers = pq.read_table(out)
    assert answers["row"].to_pylist() == list(range(1000))
    assert answers["id"].to_pylist() == list(range(0, 7000, 7))
    assert answers["score"].null_count == 0
