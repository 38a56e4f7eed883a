"""The rendered overlay as it is: predictor and drift sidecar in their own environments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from serving.local import LocalPlayer, PlayerSettings, Status
from serving.local.network import free_ports
from tests.serving.local.conftest import Start, wait_until
from tests.serving.local.deploy import bound_addresses, tree
from tests.serving.local.load import ask, v2_rows
from tests.support.tiny import rows, tiny_bundle

RENDERED = Path(__file__).parents[3] / "manifests" / "rendered" / "local.yaml"


@dataclass
class Whole:
    player: LocalPlayer
    status: Status
    bundle: str


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, start_player: Start, drift_python: Path
) -> Iterator[Whole]:
    folder: Path = tmp_path_factory.mktemp("whole")
    made = tiny_bundle(folder / "made")
    settings = PlayerSettings(
        gateway_port=next(free_ports(())),
        storage={"pvc://seatrial-bundles/fraud/v1": made.path},
    )
    player = start_player(folder / "state")
    status = player.up(RENDERED, settings)
    yield Whole(player, status, made.digest)
    player.down()


def test_the_render_is_played_byte_for_byte(whole: Whole) -> None:
    arm = whole.status.arm("v1")
    assert arm.ready
    assert arm.digest == whole.bundle
    assert arm.pids.keys() == {"kserve-container", "drift-detector"}
    assert arm.ports["kserve-container"].keys() == {8080, 8081}
    assert ask(whole.status.gateway, "/v2/models/fraud/ready") == (200, "v1")


def test_each_container_runs_in_its_own_environment(whole: Whole) -> None:
    pids = whole.status.arm("v1").pids
    assert ".venv/" in psutil.Process(pids["kserve-container"]).cmdline()[0]
    assert ".venv-drift/" in psutil.Process(pids["drift-detector"]).cmdline()[0]


def test_what_is_not_played_is_listed(whole: Whole) -> None:
    listed = "\n".join(whole.status.not_played)
    for part in (
        "PodDisruptionBudget/fraud",
        "ServiceAccount/seatrial-predictor",
        "spec.predictor.deploymentStrategy",
        "spec.predictor.containers[drift-detector].resources",
        "spec.containers[kserve-container].livenessProbe",
    ):
        assert part in listed
    assert "readinessProbe" not in listed


def test_the_sidecar_gets_the_rows_and_its_event_is_kept(whole: Whole) -> None:
    port = whole.status.arm("v1").ports["drift-detector"][9095]
    columns = rows(400, seed=3)
    columns["amount"] = columns["amount"] * 0 + 9999.0
    gateway, path = whole.status.gateway, "/v2/models/fraud/infer"
    file = whole.player.events_file

    def told() -> bool:
        assert ask(gateway, path, v2_rows(columns)) == (200, "v1")
        return file.exists() and len(file.read_text().splitlines()) > 0

    wait_until(told, 60)
    event = json.loads(file.read_text().splitlines()[0])
    assert event["type"] == "io.seatrial.drift.opened"
    assert event["specversion"] == "1.0"
    assert "v1" in json.dumps(event)
    assert whole.player.status().events >= 1
    assert ask(f"127.0.0.1:{port}", "/healthz")[0] == 200


def test_every_socket_of_every_process_is_on_loopback(whole: Whole) -> None:
    processes = tree(whole.status.supervisor_pid)
    names = {process.name() for process in processes}
    assert len(processes) >= 4
    assert "envoy" in names
    for process in processes:
        assert bound_addresses(process.pid) <= {"127.0.0.1"}, process.cmdline()
    assert bound_addresses(whole.status.arm("v1").pids["drift-detector"]) == {"127.0.0.1"}


def test_no_process_sees_the_callers_environment(whole: Whole) -> None:
    for pid in whole.status.arm("v1").pids.values():
        environment = psutil.Process(pid).environ()
        assert environment["SEATRIAL_HOST"] == "127.0.0.1"
        assert "PYTEST_CURRENT_TEST" not in environment


def test_an_idle_player_costs_next_to_nothing(whole: Whole) -> None:
    supervisor = psutil.Process(whole.status.supervisor_pid)
    assert supervisor.memory_info().rss < 120 * 2**20
    assert supervisor.cpu_percent(2.0) < 10
