"""A running player when a predictor, the gateway or a manifest is bad."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from serving.errors import BundleError, ManifestError, PlayerError
from serving.local.client import LocalPlayer
from tests.serving.local.conftest import Start, answers, wait_until
from tests.serving.local.deploy import Deploy
from tests.serving.local.load import Load, ask


@dataclass
class Running:
    deploy: Deploy
    player: LocalPlayer


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, start_player: Start) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("failures")
    deploy = Deploy(folder / "deploy")
    for name in ("v1", "v2"):
        deploy.bundle(name)
    player = start_player(folder / "state")
    player.up(deploy.rollout("v1"))
    yield Running(deploy, player)
    assert player.status().arm("v1").ready


def asked(deploy: Deploy, count: int = 40) -> Counter[str]:
    """Answers by arm."""
    found = [ask(deploy.gateway, "/v2/models/tiny/ready") for _ in range(count)]
    assert {status for status, _ in found} == {200}
    return Counter(arm for _, arm in found)


@pytest.fixture
def edited(running: Running) -> Iterator[Path]:
    """The manifest file, put back and applied after the test."""
    file = running.deploy.path / "manifest.yaml"
    text = file.read_text()
    yield file
    file.write_text(text)
    running.player.apply(running.deploy.rollout("v1"))


def canary_patch(deploy: Deploy, extra: str) -> Path:
    """A rollout with canary v2 at 50 % whose model has one more line."""
    folder = deploy.rollout("v1", {"v2": 50})
    file = folder / "rollout.yaml"
    line = "          storageUri: pvc://bundles/v2\n"
    text = file.read_text()
    assert line in text
    file.write_text(text.replace(line, line + extra))
    return folder


def test_a_canary_that_never_gets_ready_gets_no_traffic(running: Running, edited: Path) -> None:
    extra = "          args: [--tee_url=nonsense]\n"
    status = running.player.apply(canary_patch(running.deploy, extra))
    assert status.weights == {"v1": 100, "v2": 0}
    arm = status.arm("v2")
    assert not arm.ready
    assert arm.wanted_weight == 50
    assert "ended with exit code 2" in arm.why
    assert "tee_url" in arm.why
    assert asked(running.deploy).keys() == {"v1"}
    assert "nonsense" in running.player.logs("v2").read_text()


def test_a_changed_template_starts_a_new_generation_without_a_failed_request(
    running: Running, edited: Path
) -> None:
    before = running.player.status().arm("v1")
    text = edited.read_text()
    edited.write_text(text.replace("predict_timeout_seconds=1", "predict_timeout_seconds=2"))
    with Load(running.deploy.gateway) as load:
        load.wait_for(50)
        after = running.player.apply(running.deploy.rollout("v1")).arm("v1")
        load.wait_for(50)
    assert after.ready
    assert after.template != before.template
    assert after.pids != before.pids
    assert load.failures == []
    assert not Path(f"/proc/{before.pids['kserve-container']}").exists()


def test_a_new_generation_that_never_gets_ready_leaves_the_old_one_serving(
    running: Running, edited: Path
) -> None:
    before = running.player.status().arm("v1")
    edited.write_text(edited.read_text().replace("--tee_url=", "--tee_url=nonsense"))
    after = running.player.apply(running.deploy.rollout("v1")).arm("v1")
    assert not after.ready
    assert after.weight == 100
    assert "its last ready generation answers meanwhile" in after.why
    assert asked(running.deploy).keys() == {"v1"}
    assert Path(f"/proc/{before.pids['kserve-container']}").exists()


def test_a_stable_that_is_not_deployed_yet_gets_traffic_only_when_ready(
    running: Running, edited: Path
) -> None:
    with Load(running.deploy.gateway) as load:
        load.wait_for(50)
        status = running.player.apply(running.deploy.rollout("v2"))
        load.wait_for(50)
        assert [arm.name for arm in status.arms] == ["v2"]
        running.player.apply(running.deploy.rollout("v1"))
        load.wait_for(50)
    assert load.failures == []


def test_a_killed_predictor_is_started_again(running: Running) -> None:
    before = running.player.status().arm("v1")
    os.kill(before.pids["kserve-container"], signal.SIGKILL)
    wait_until(lambda: running.player.status().arm("v1").restarts != before.restarts)
    wait_until(lambda: running.player.status().arm("v1").ready)
    after = running.player.status().arm("v1")
    assert after.ports == before.ports
    assert after.pids != before.pids
    assert answers(running.deploy)
    assert running.player.logs("v1").read_text().count("golden rows reproduced") >= 2


def test_a_killed_canary_leaves_the_route_and_comes_back(running: Running, edited: Path) -> None:
    status = running.player.apply(running.deploy.rollout("v1", {"v2": 50}))
    os.kill(status.arm("v2").pids["kserve-container"], signal.SIGKILL)
    wait_until(lambda: running.player.status().weights == {"v1": 100, "v2": 0})
    wait_until(lambda: running.player.status().weights == {"v1": 50, "v2": 50})
    assert asked(running.deploy).keys() == {"v1", "v2"}


def test_a_killed_gateway_is_started_again_with_the_same_split(
    running: Running, edited: Path
) -> None:
    status = running.player.apply(running.deploy.rollout("v1", {"v2": 50}))
    assert status.gateway_pid is not None
    os.kill(status.gateway_pid, signal.SIGKILL)
    wait_until(lambda: running.player.status().gateway_pid not in (None, status.gateway_pid))
    wait_until(lambda: answers(running.deploy))
    assert asked(running.deploy).keys() == {"v1", "v2"}


def test_a_bad_manifest_is_refused_and_nothing_changes(running: Running, edited: Path) -> None:
    before = running.player.status()
    edited.write_text(edited.read_text().replace("timeout: 15", "timeuot: 15"))
    with pytest.raises(ManifestError, match="timeuot"):
        running.player.apply(running.deploy.path)
    edited.write_text("kind: [")
    with pytest.raises(ManifestError, match="not YAML"):
        running.player.apply(running.deploy.path)
    with pytest.raises(ManifestError, match="no such file"):
        running.player.apply(running.deploy.path / "absent.yaml")
    assert running.player.status() == before


def test_a_tampered_bundle_is_refused_and_nothing_changes(running: Running) -> None:
    before = running.player.status()
    running.deploy.bundle("v3")
    card = running.deploy.path / "bundles" / "v3" / "card.md"
    card.write_text("altered")
    with pytest.raises(BundleError, match=r"v3/card\.md: sha256"):
        running.player.apply(running.deploy.rollout("v1", {"v3": 10}))
    with pytest.raises(PlayerError, match="storageUri 'pvc://bundles/v9': no folder"):
        running.player.apply(running.deploy.rollout("v1", {"v9": 10}))
    running.deploy.rollout("v1")
    assert running.player.status() == before


def test_another_port_needs_a_new_start(running: Running) -> None:
    file = running.deploy.path / "player.yaml"
    text = file.read_text()
    file.write_text(text.replace(str(running.deploy.port), "12345"))
    with pytest.raises(PlayerError, match=f"on port {running.deploy.port} and player.yaml asks"):
        running.player.apply(running.deploy.path)
    file.write_text(text)


def test_an_unknown_log_names_those_there_are(running: Running) -> None:
    with pytest.raises(PlayerError, match="no log 'v7'; there are: .*gateway.*v1/kserve-container"):
        running.player.logs("v7")
    with pytest.raises(PlayerError, match="no log"):
        running.player.logs("../../../etc/passwd")


def test_a_change_that_a_cluster_refuses_is_refused_and_changes_nothing(running: Running) -> None:
    file = running.deploy.rollout("v1") / "rollout.yaml"
    text = file.read_text()
    file.write_text(text.replace("name: v1", "name: v9"))
    with pytest.raises(ManifestError, match="from 'v1' to 'v9' while storageUri stays"):
        running.player.apply(running.deploy.path)
    assert set(asked(running.deploy)) == {"v1"}
    file.write_text(text)
