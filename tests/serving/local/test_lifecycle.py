"""Starting, ending, and what must hold when something is killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from serving.errors import PlayerError
from serving.local.client import LocalPlayer
from serving.local.state import read_state
from serving.local.status import Status
from tests.serving.local.conftest import answers, wait_until
from tests.serving.local.deploy import Deploy, tree
from tests.serving.local.load import ask, v2_json
from tests.support.faults import ABOVE, faulty_bundle


def is_refused(deploy: Deploy) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", deploy.port)) != 0


def all_pids(status: Status) -> list[int]:
    pids = [pid for arm in status.arms for pid in arm.pids.values()]
    assert status.gateway_pid is not None
    return [*pids, status.gateway_pid, status.supervisor_pid]


def alive(pids: list[int]) -> list[int]:
    return [
        pid
        for pid in pids
        if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    ]


def test_down_ends_everything_within_five_seconds_while_a_model_loops(
    tmp_path: Path, player: LocalPlayer
) -> None:
    deploy = Deploy(tmp_path / "looping")
    deploy.bundle("v1", faulty_bundle(tmp_path / "made", "loop"))
    status = player.up(deploy.rollout("v1"))
    slow = v2_json(visits=ABOVE + 1)

    def cut_off() -> None:
        with contextlib.suppress(http.client.RemoteDisconnected):
            ask(deploy.gateway, "/v2/models/tiny/infer", slow)

    asking = threading.Thread(target=cut_off)
    asking.start()
    [predictor] = status.arm("v1").pids.values()
    busy = psutil.Process(predictor)
    began_cpu = busy.cpu_times().user
    wait_until(lambda: busy.cpu_times().user > began_cpu + 0.2)
    began = time.monotonic()
    player.down()
    assert time.monotonic() - began < 5
    asking.join()
    assert alive(all_pids(status)) == []
    assert is_refused(deploy)


def test_down_twice_and_without_a_player_is_no_error(deploy: Deploy, player: LocalPlayer) -> None:
    player.down()
    player.up(deploy.path)
    player.down()
    player.down()
    with pytest.raises(PlayerError, match="nothing runs in .*state; start it with 'seatrial up'"):
        player.status()


def test_sigterm_to_the_supervisor_ends_everything(deploy: Deploy, player: LocalPlayer) -> None:
    status = player.up(deploy.path)
    os.kill(status.supervisor_pid, signal.SIGTERM)
    wait_until(lambda: not alive(all_pids(status)), 5)
    assert is_refused(deploy)


def test_kill_9_of_the_supervisor_leaves_nothing_and_is_told(
    tmp_path: Path, deploy: Deploy, player: LocalPlayer
) -> None:
    status = player.up(deploy.path)
    os.kill(status.supervisor_pid, signal.SIGKILL)
    wait_until(lambda: not alive(all_pids(status)), 5)
    told: list[str] = []
    later = LocalPlayer(tmp_path / "state", notify=told.append)
    with pytest.raises(PlayerError, match="nothing runs"):
        later.status()
    assert len(told) == 1
    assert f"supervisor (pid {status.supervisor_pid}) died without ending" in told[0]
    later.down()
    assert len(told) == 1


def test_children_that_outlived_their_supervisor_are_ended(
    tmp_path: Path, deploy: Deploy, player: LocalPlayer
) -> None:
    survivor = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        status = player.up(deploy.path)
        os.kill(status.supervisor_pid, signal.SIGKILL)
        wait_until(lambda: not alive(all_pids(status)), 5)
        file = tmp_path / "state" / "state.json"
        state = json.loads(file.read_text())
        start = int(Path(f"/proc/{survivor.pid}/stat").read_text().rpartition(")")[2].split()[19])
        state["children"]["v1/survivor"] = {"pid": survivor.pid, "start": start}
        state["children"]["v1/stranger"] = {"pid": stranger.pid, "start": start - 5}
        file.write_text(json.dumps(state))
        told: list[str] = []
        LocalPlayer(tmp_path / "state", notify=told.append).down()
        assert told[0].endswith("ended 1 of its processes")
        assert survivor.wait(5) == -signal.SIGTERM
        assert stranger.poll() is None
    finally:
        for process in (survivor, stranger):
            process.kill()
            process.wait()


@pytest.mark.parametrize("command", ["status", "up", "apply", "logs", "down"])
def test_the_next_command_ends_what_a_dead_owner_left(
    tmp_path: Path, deploy: Deploy, player: LocalPlayer, command: str
) -> None:
    owner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    status = player.up(deploy.path, owner_pid=owner.pid)
    assert player.status() == status
    owner.kill()
    owner.wait()
    told: list[str] = []
    later = LocalPlayer(tmp_path / "state", notify=told.append)
    if command in ("status", "apply"):
        with pytest.raises(PlayerError, match="nothing runs"):
            later.status() if command == "status" else later.apply(deploy.path)
    elif command == "up":
        assert later.up(deploy.path).supervisor_pid != status.supervisor_pid
    elif command == "logs":
        assert "golden rows reproduced" in later.logs("v1").read_text()
    else:
        later.down()
    assert told == [
        f"the process that started the player (pid {owner.pid}) is gone; ended 3 of its processes"
    ]
    assert alive(all_pids(status)) == []


def test_a_disowned_player_outlives_its_owner(deploy: Deploy, player: LocalPlayer) -> None:
    owner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    status = player.up(deploy.path, owner_pid=owner.pid)
    player.disown()
    owner.kill()
    owner.wait()
    assert player.end_orphans() == []
    assert player.status() == status


def test_a_taken_port_is_named_with_its_holder_and_nothing_starts(
    deploy: Deploy, player: LocalPlayer
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", deploy.port))
        holder.listen()
        with pytest.raises(PlayerError) as caught:
            player.up(deploy.path)
    message = str(caught.value)
    assert f"port {deploy.port} of 127.0.0.1 is taken by" in message
    assert f"(pid {os.getpid()})" in message
    assert "set another gateway_port in player.yaml" in message
    assert read_state(player.state_dir) is None
    children = [process.pid for process in tree(os.getpid())[1:]]
    assert [p for p in alive(children) if "serving.local" in psutil.Process(p).cmdline()] == []


def test_up_on_the_folder_brings_the_rollout_back_after_a_kill(
    deploy: Deploy, player: LocalPlayer
) -> None:
    deploy.bundle("v2")
    before = player.up(deploy.rollout("v2", {"v1": 20}))
    os.kill(before.supervisor_pid, signal.SIGKILL)
    wait_until(lambda: not alive(all_pids(before)), 5)
    after = player.up(deploy.path)
    for name in ("v1", "v2"):
        assert after.arm(name).digest == before.arm(name).digest
        assert after.arm(name).role == before.arm(name).role
        assert after.arm(name).ready
    assert after.weights == before.weights == {"v2": 80, "v1": 20}


def test_a_stable_that_never_gets_ready_ends_everything_and_says_why(
    tmp_path: Path, deploy: Deploy, player: LocalPlayer
) -> None:
    text = (deploy.path / "manifest.yaml").read_text()
    (deploy.path / "manifest.yaml").write_text(text.replace("--tee_url=", "--tee_url=nonsense"))
    with pytest.raises(PlayerError) as caught:
        player.up(deploy.path)
    assert "stable predictor 'v1' did not become ready" in str(caught.value)
    assert "tee_url" in str(caught.value)
    assert read_state(player.state_dir) is None
    assert is_refused(deploy)


def test_two_players_live_side_by_side(tmp_path: Path, deploy: Deploy, player: LocalPlayer) -> None:
    other = Deploy(tmp_path / "other")
    other.bundle("v1")
    beside = LocalPlayer(tmp_path / "state2")
    player.up(deploy.path)
    try:
        beside.up(other.rollout("v1"))
        player.down()
        assert answers(other)
        assert is_refused(deploy)
    finally:
        beside.down()
