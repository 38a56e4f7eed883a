"""The receiver as a real process: its answers, its settings, and kill -9 at every point."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from serving.errors import UsageError
from serving.retrain.command import CommandLauncher, CommandSettings
from serving.retrain.launcher import RunState
from serving.retrain.settings import read_settings
from tests.serving.retrain.receivers import Receiver, event, eventually
from tests.serving.retrain.test_kfp_launcher import SPEC
from tests.support.kfp_api import KfpApi

PARAMETERS = '{"event_id": "{event_id}", "parent": "{bundle}"}'
POINTS = [
    ("before", "GET", "/apis/v2beta1/runs"),
    ("before", "POST", "/apis/v2beta1/runs"),
    ("after", "POST", "/apis/v2beta1/runs"),
]


def receiver(folder: Path, kfp: KfpApi) -> Receiver:
    return Receiver(folder, kfp_url=kfp.url, kfp_pipeline="retrain", parameters=PARAMETERS)


@pytest.mark.parametrize("point", POINTS, ids=" ".join)
def test_killed_while_a_run_is_started_it_starts_exactly_one(
    tmp_path: Path, point: tuple[str, str, str]
) -> None:
    with KfpApi() as kfp, receiver(tmp_path, kfp) as ours:
        kfp.put_pipeline("retrain", SPEC)

        def kill(*now: str) -> None:
            if now == point:
                ours.process.kill()

        kfp.watch = kill
        assert ours.send(event()) == (202, b"")
        ours.process.wait(15)
        kfp.watch = lambda *_: None
        ours.start()
        eventually(lambda: ours.told().get("state") == "running")
        assert [run["display_name"] for run in kfp.runs.values()] == ["event-1"]


def test_killed_as_soon_as_it_has_answered_it_still_starts_the_run_and_no_other(
    tmp_path: Path,
) -> None:
    with KfpApi() as kfp, receiver(tmp_path, kfp) as ours:
        kfp.put_pipeline("retrain", SPEC)
        assert ours.send(event()) == (202, b"")
        ours.kill()
        ours.start()
        assert ours.send(event()) == (202, b"")  # a broker that never saw the first answer
        eventually(lambda: ours.told().get("state") == "running")
        ours.kill()
        kfp.finish("event-1")
        ours.start()
        eventually(lambda: ours.told().get("state") == "succeeded")
        assert len(kfp.runs) == 1
        metrics = ours.ask("/metrics").decode()
        assert 'seatrial_retrain_runs_total{model="fraud",state="succeeded"} 1.0' in metrics
        assert ours.stop() == 0


def test_answers_say_what_is_wrong_with_a_request(tmp_path: Path) -> None:
    with KfpApi() as kfp, receiver(tmp_path, kfp) as ours:
        assert ours.post(b"{}", {"content-type": "application/json"})[0] == 400
        status, body = ours.post(b"x" * (2**20 + 1), {"ce-id": "1"})
        assert (status, json.loads(body)["error"][:31]) == (413, "the event is longer than 104857")
        sent = {"ce-specversion": "1.0", "ce-id": "9", "ce-source": "/s", "ce-type": "com.other"}
        assert ours.post(b"", sent) == (202, b"")
        eventually(lambda: ours.told("9").get("why") == "type com.other starts no run")
        assert 'type="other"' in ours.ask("/metrics").decode()


def test_a_command_runs_once_although_its_receiver_dies(tmp_path: Path) -> None:
    """The run outlives kill -9, and the receiver that comes back sees how it ended."""
    said = tmp_path / "said"
    script = (
        "import sys, time, json; open(sys.argv[1], 'a').write(sys.argv[2] + '\\n');"
        "time.sleep(1.0); assert json.load(open(sys.argv[3]))['id'] == sys.argv[2]"
    )
    command = json.dumps([sys.executable, "-c", script, str(said), "{event_id}", "{event}"])
    with Receiver(tmp_path, launcher="command", command=command) as ours:
        assert ours.send(event()) == (202, b"")
        eventually(said.exists)
        ours.kill()
        ours.start()
        eventually(lambda: ours.told().get("state") == "succeeded")
    assert said.read_text() == "event-1\n"


def test_of_two_processes_started_for_one_run_only_one_runs_the_command(tmp_path: Path) -> None:
    said = tmp_path / "said"
    command = (sys.executable, "-c", f"open({str(said)!r}, 'a').write('x'); raise SystemExit(3)")
    ours = CommandLauncher(CommandSettings(command, tmp_path / "runs"))
    run = ours.start(event())
    # As after a crash between a spawn and its claim: a second process for the same folder.
    ours._spawn(tmp_path / "runs" / run, event(), tmp_path / "event.json")
    eventually(lambda: ours.state(run) is RunState.FAILED)
    assert said.read_text() == "x"
    assert (tmp_path / "runs" / run / "exit").read_text() == "3\n"


def test_a_run_whose_process_dies_has_failed(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "import os; os.kill(os.getppid(), 9)")
    ours = CommandLauncher(CommandSettings(command, tmp_path))
    run = ours.start(event())
    eventually(lambda: ours.state(run) is RunState.FAILED)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"launcher": "argo"}, "launcher 'argo' is none of kfp, command"),
        ({"launcher": "command"}, "command is empty"),
        ({"launcher": "command", "command": '["x", "{evnt}"]'}, "'evnt' is no place"),
        ({"parameters": "[]"}, "parameters '\\[\\]' is no JSON object"),
        ({"severity": "high"}, "severity 'high' is none of info, warning, critical"),
        ({"journal": ""}, "journal is empty"),
        ({"cooldown_seconds": -1}, "cooldown_seconds -1.0 is no length of time"),
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict[str, str], sentence: str) -> None:
    arguments = {"journal": "j", "kfp_url": "http://k", "kfp_pipeline": "p", **settings}
    flags = [f"--{name}={value}" for name, value in arguments.items()]
    with pytest.raises(UsageError, match=sentence):
        read_settings(flags, {}).build_launcher()


def test_a_flag_wins_over_its_environment_variable() -> None:
    environment = {"SEATRIAL_RETRAIN_PORT": "1234", "SEATRIAL_RETRAIN_JOURNAL": "j"}
    assert read_settings([], environment).port == 1234
    assert read_settings(["--port", "99"], environment).port == 99
