"""Real card fraud: a model of day one, judged on day two by what the gateway answers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from components.checked import read_checked
from components.evaluate.core import measure
from pipelines.local import run_train, step_output
from seatrial.deployment import create_deployment
from serving.bundle import open_bundle
from serving.local import LocalPlayer
from tests.e2e.asking import scores_over_http
from tests.e2e.running import free_port

CONTRACT = Path(__file__).parents[1] / "contracts" / "ulb_creditcard.json"


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("drift_python")
def test_the_served_network_finds_the_fraud_of_day_two(shared_data: Path, tmp_path: Path) -> None:
    table = pd.read_parquet(shared_data / "ulb_creditcard_subset.parquet")
    table[table["uniform48h"]].to_parquet(tmp_path / "ulb.parquet", index=False)
    path = run_train(
        tmp_path / "ulb.parquet",
        CONTRACT,
        tmp_path / "bundles",
        work=tmp_path / "work",
        test_from=86_400.0,
        family="network",
    )
    bundle = open_bundle(path)
    state = create_deployment(tmp_path / "deploy", bundle, port=free_port())
    checked = read_checked(step_output(tmp_path / "work", "validate", "checked"))
    player = LocalPlayer(tmp_path / "state")
    try:
        gateway = player.up(tmp_path / "deploy").gateway
        served = scores_over_http(
            gateway, state.service, bundle.contract, checked.part("test").columns
        )
    finally:
        player.down()
    found = measure(checked, served, draws=200, seed=0)
    quality, low_high = found["metrics"], found["intervals"]
    assert found["rows"]["test"] == 14_275
    assert quality["roc_auc"] >= 0.97
    assert quality["average_precision"] >= 0.72
    assert quality["average_precision"] >= found["baseline"]["average_precision"]
    assert found["baseline"]["average_precision"] == pytest.approx(0.71, abs=0.02)
    assert low_high["roc_auc"][0] < quality["roc_auc"] < low_high["roc_auc"][1]
    assert low_high["average_precision"][0] > 0.72
    assert low_high["average_precision_gain"][0] > 0
