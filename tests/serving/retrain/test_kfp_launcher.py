from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.errors import UsageError
from serving.retrain.kfp import KfpLauncher, KfpSettings
from serving.retrain.launcher import LaunchError, RunState
from tests.serving.retrain.receivers import event
from tests.support.kfp_api import KfpApi

SPEC = {
    "pipelineInfo": {"name": "retrain"},
    "root": {
        "inputDefinitions": {
            "parameters": {
                "event_id": {"parameterType": "STRING"},
                "parent": {"parameterType": "STRING"},
                "seed": {"parameterType": "NUMBER_INTEGER", "defaultValue": 0},
            }
        }
    },
}
PARAMETERS = {"event_id": "{event_id}", "parent": "{bundle}", "seed": 3}


@pytest.fixture
def kfp() -> Iterator[KfpApi]:
    with KfpApi() as server:
        server.put_pipeline("retrain", SPEC)
        yield server


def launcher(server: KfpApi, **changes: object) -> KfpLauncher:
    settings = {"url": server.url, "pipeline": "retrain", "parameters": PARAMETERS, **changes}
    return KfpLauncher(KfpSettings(**settings))  # type: ignore[arg-type]


def test_a_run_is_named_by_the_event_and_gets_it_as_a_parameter(kfp: KfpApi) -> None:
    newest = kfp.put_version(next(iter(kfp.pipelines)), "retrain-2", SPEC)
    run = kfp.runs[launcher(kfp).start(event())]
    assert run["display_name"] == "event-1"
    assert run["runtime_config"]["parameters"] == {
        "event_id": "event-1",
        "parent": "ab" * 32,
        "seed": 3,
    }
    version = run["pipeline_version_reference"]["pipeline_version_id"]
    assert version == newest["pipeline_version_id"]


def test_a_run_that_exists_is_found_and_not_started_again(kfp: KfpApi) -> None:
    ours = launcher(kfp)
    assert ours.start(event()) == ours.start(event())
    assert len(kfp.runs) == 1
    ours.start(event(2))
    assert len(kfp.runs) == 2


def test_a_lost_answer_does_not_start_a_second_run(kfp: KfpApi) -> None:
    kfp.lose_answers = 1
    with pytest.raises(LaunchError):
        launcher(kfp).start(event())
    assert launcher(kfp).start(event()) in kfp.runs
    assert len(kfp.runs) == 1


def test_the_token_is_read_anew_for_each_request(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    with KfpApi(multi_user=True, token="first") as kfp:
        kfp.put_pipeline("retrain", SPEC, "team")
        ours = launcher(kfp, namespace="team", token_file=token)
        ours.start(event())
        kfp.token = "second"
        token.write_text("second\n")
        ours.start(event(2))
        assert {run["experiment_id"] for run in kfp.runs.values()} == set(kfp.experiments)


def test_states_are_those_of_the_run(kfp: KfpApi) -> None:
    ours = launcher(kfp)
    run = ours.start(event())
    assert ours.state(run) is RunState.ACTIVE
    kfp.finish("event-1")
    assert ours.state(run) is RunState.SUCCEEDED
    kfp.finish("event-1", "CANCELED")
    assert ours.state(run) is RunState.FAILED
    kfp.runs.clear()
    assert ours.state(run) is RunState.FAILED


def test_a_refusal_is_final_and_an_outage_is_not(kfp: KfpApi) -> None:
    with pytest.raises(LaunchError, match="does not require: \\['wrong'\\]") as refused:
        launcher(kfp, parameters={"wrong": "{event_id}"}).start(event())
    assert refused.value.final
    kfp.faults = [503]
    with pytest.raises(LaunchError, match="503") as failed:
        launcher(kfp).start(event())
    assert not failed.value.final
    with pytest.raises(LaunchError, match="pipelines/names/other.*404"):
        launcher(kfp, pipeline="other").start(event())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"parameters": {"seed": 1}}, "none has {event_id}"),
        ({"parameters": {"a": "{event_id}{nonsense}"}}, "'nonsense' is no place"),
        ({"url": "ml-pipeline:8888"}, "kfp_url 'ml-pipeline:8888'"),
        ({"pipeline": ""}, "kfp_pipeline is empty"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_start(
    kfp: KfpApi, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        launcher(kfp, **changes)
