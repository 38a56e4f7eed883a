"""Runs by `seatrial pipeline submit`, and parameters as people write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from pipelines.parameters import read_ir, read_parameters, with_defaults
from pipelines.resources import compiled, version_of
from pipelines.submit import submit
from seatrial.cli.pipeline import pipeline
from serving.errors import FileError, StageError, UsageError
from tests.support.kfp_api import KfpApi

GIVEN = {"table": "/mnt/seatrial/t.parquet", "contract": "{}", "out": "/mnt/seatrial/bundles"}


def test_a_run_names_the_version_that_was_compiled_and_its_parameters(tmp_path: Path) -> None:
    (tmp_path / "contract.json").write_text("{}")
    with KfpApi() as kfp:
        done = CliRunner().invoke(
            pipeline,
            [
                *("submit", "train", "--host", kfp.url, "--experiment", "fraud"),
                *("--param", "table=/mnt/seatrial/t.parquet", "--param", "out=s3://b/p"),
                *("--param", f"contract=@{tmp_path}/contract.json", "--param", "epochs=3"),
                *("--param", 'gpu_nodes={"pool": "a100"}', "--run-name", "event-1"),
            ],
            catch_exceptions=False,
        )
        (run,) = kfp.runs.values()
        assert done.stdout.strip() == run["run_id"]
        assert run["display_name"] == "event-1"
        assert run["runtime_config"]["parameters"] == {
            "table": "/mnt/seatrial/t.parquet",
            "out": "s3://b/p",
            "contract": "{}",
            "epochs": 3,
            "gpu_nodes": {"pool": "a100"},
        }
        assert kfp.experiments[run["experiment_id"]]["display_name"] == "fraud"
        version = kfp.versions[run["pipeline_version_reference"]["pipeline_version_id"]]
        assert version["name"] == version_of(compiled()["train"])
        spec = next(yaml.safe_load_all(compiled()["train"].read_text()))
        assert version["pipeline_spec"] == spec


def test_a_second_run_uploads_nothing(tmp_path: Path) -> None:
    with KfpApi() as kfp:
        submit(kfp.url, "train", GIVEN)
        versions = dict(kfp.versions)
        submit(kfp.url, "train", GIVEN)
        assert kfp.versions == versions
        assert len(kfp.runs) == 2


def test_what_the_endpoint_refuses_is_said() -> None:
    with KfpApi() as kfp, pytest.raises(StageError, match="KFP refused: .*requires input"):
        submit(kfp.url, "train", {})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["epochs"], "write KEY=VALUE"),
        (["epoch=3"], "parameter 'epoch' is unknown"),
        (["epochs=many"], "'many' is no number integer"),
        (["epochs=true"], "'true' is no number integer"),
        (["gpu_nodes=[]"], r"'\[\]' is no struct"),
        (["epochs=3"], "parameters are missing: contract, out, table"),
    ],
)
def test_wrong_parameters_are_named_before_anything_is_sent(
    given: list[str], expected: str
) -> None:
    with pytest.raises(UsageError, match=expected):
        read_parameters(read_ir("train")[0], given)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="parameter 'contract'"):
        read_parameters(read_ir("train")[0], [f"contract=@{tmp_path}/none.json"])


def test_an_unknown_pipeline_is_named_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="batch-score, promote, retrain, train, tune"):
        read_ir("traim")


def test_defaults_are_those_of_the_ir() -> None:
    spec: dict[str, Any] = dict(read_ir("train")[0])
    values = with_defaults(spec, {"gpu_count": "2"})
    assert values["gpu_count"] == "2"
    assert values["gpu_nodes"] == {"nvidia.com/gpu.present": "true"}
