"""Deploy folders and players; whatever a test starts is ended when its fixture ends."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving.local.client import LocalPlayer
from serving.local.orphans import end_at_once
from tests.serving.local.deploy import Deploy
from tests.serving.local.load import ask

Start = Callable[[Path], LocalPlayer]


def wait_until(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def answers(deploy: Deploy) -> bool:
    try:
        return ask(deploy.gateway, "/v2/models/tiny/ready")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


@pytest.fixture(scope="module")
def start_player() -> Iterator[Start]:
    """Makes players that are ended with the module, even if their own `down` is broken."""
    made: list[LocalPlayer] = []

    def start(state_dir: Path) -> LocalPlayer:
        made.append(LocalPlayer(state_dir, notify=lambda _: None))
        return made[-1]

    yield start
    for player in made:
        player.down()
        end_at_once(player.state_dir)


@pytest.fixture
def deploy(tmp_path: Path) -> Deploy:
    """A folder that deploys v1 alone."""
    made = Deploy(tmp_path / "deploy")
    made.bundle("v1")
    made.rollout("v1")
    return made


@pytest.fixture
def player(tmp_path: Path, start_player: Start) -> Iterator[LocalPlayer]:
    found = start_player(tmp_path / "state")
    yield found
    found.down()
