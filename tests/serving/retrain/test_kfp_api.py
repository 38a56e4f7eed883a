"""The fake KFP API against KFP's own generated client and SDK."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import kfp_server_api as api  # type: ignore[import-untyped]
import pytest
import yaml
from kfp import Client
from kfp_server_api.exceptions import ApiException  # type: ignore[import-untyped]

from tests.support.kfp_api import KfpApi

TRAIN = Path(__file__).parents[3] / "pipelines" / "train" / "train.yaml"
SPEC = next(iter(yaml.safe_load_all(TRAIN.read_text("utf-8"))))
PARAMETERS = {"table": "t.csv", "contract": "{}", "out": "bundles"}


@pytest.fixture
def kfp() -> Iterator[KfpApi]:
    with KfpApi() as server:
        yield server


def runs_of(server: KfpApi) -> api.RunServiceApi:
    return api.RunServiceApi(api.ApiClient(api.Configuration(host=server.url)))


def new_run(pipeline: str, name: str = "event-1", **parameters: object) -> api.V2beta1Run:
    return api.V2beta1Run(
        display_name=name,
        pipeline_version_reference=api.V2beta1PipelineVersionReference(pipeline_id=pipeline),
        runtime_config=api.V2beta1RuntimeConfig(parameters={**PARAMETERS, **parameters}),
    )


def test_kfps_own_sdk_uploads_runs_and_waits(kfp: KfpApi) -> None:
    client = Client(host=kfp.url)
    pipeline = client.upload_pipeline(str(TRAIN), pipeline_name="train")
    version = client.upload_pipeline_version(
        str(TRAIN), pipeline_version_name="train-2", pipeline_id=pipeline.pipeline_id
    )
    assert client.get_pipeline_id("train") == pipeline.pipeline_id
    experiment = client.create_experiment("nightly")
    run = client.run_pipeline(
        experiment.experiment_id,
        "first",
        params=PARAMETERS,
        pipeline_id=pipeline.pipeline_id,
        version_id=version.pipeline_version_id,
    )
    kfp.finish("first")
    assert client.wait_for_run_completion(run.run_id, timeout=5).state == "SUCCEEDED"


def test_generated_client_finds_a_run_by_its_display_name(kfp: KfpApi) -> None:
    pipeline = kfp.put_pipeline("train", SPEC)["pipeline_id"]
    for name in ("event-1", "event-2"):
        runs_of(kfp).run_service_create_run(run=new_run(pipeline, name))
    wanted = '{"predicates": [{"operation": "EQUALS", "key": "name", "stringValue": "event-2"}]}'
    found = runs_of(kfp).run_service_list_runs(filter=wanted)
    assert [run.display_name for run in found.runs] == ["event-2"]


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        (lambda p: new_run(p, unknown="1"), "does not require: \\['unknown'\\]"),
        (lambda p: new_run(p, seed="text"), "seed requires NUMBER_INTEGER"),
        (lambda p: new_run(p, name=""), "run name is empty"),
        (lambda p: new_run("no-such"), "Pipeline no-such not found"),
        (lambda p: {"display_name": "x", "nonsense": 1}, "unknown field 'nonsense'"),
    ],
)
def test_refuses_what_the_real_server_refuses(kfp: KfpApi, run: object, sentence: str) -> None:
    pipeline = kfp.put_pipeline("train", SPEC)["pipeline_id"]
    with pytest.raises(ApiException, match=sentence):
        runs_of(kfp).run_service_create_run(run=run(pipeline))  # type: ignore[operator]


def test_multi_user_mode_asks_for_a_namespace_and_a_token() -> None:
    with KfpApi(multi_user=True, token="t") as kfp:
        kfp.put_pipeline("train", SPEC, "team")
        settings = api.Configuration(host=kfp.url)
        with pytest.raises(ApiException, match="bearer token"):
            api.PipelineServiceApi(api.ApiClient(settings)).pipeline_service_list_pipelines()
        settings.api_key = {"authorization": "Bearer t"}
        found = api.PipelineServiceApi(api.ApiClient(settings))
        with pytest.raises(ApiException, match="namespace is required"):
            found.pipeline_service_get_pipeline_by_name("train")
        assert found.pipeline_service_get_pipeline_by_name("train", namespace="team").name
