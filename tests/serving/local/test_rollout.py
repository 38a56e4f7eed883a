"""One rollout from canary to cleanup under a continuous client: no request may fail."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from serving.local.client import LocalPlayer
from serving.local.status import Status
from tests.serving.local.conftest import Start
from tests.serving.local.deploy import Deploy
from tests.serving.local.load import Load

SAMPLE = 700


@dataclass
class Story:
    load: Load
    steps: dict[str, Status] = field(default_factory=dict)
    shares: dict[str, dict[str, Counter[str]]] = field(default_factory=dict)
    """By step and wire: answers by arm while nothing changed."""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, start_player: Start) -> Iterator[Story]:
    folder: Path = tmp_path_factory.mktemp("rollout")
    deploy = Deploy(folder / "deploy")
    for name in ("v1", "v2", "v3"):
        deploy.bundle(name)
    player = start_player(folder / "state")
    first = player.up(deploy.rollout("v1"))
    with Load(deploy.gateway) as load:
        story = Story(load, {"up": first})

        def step(name: str, stable: str, canaries: dict[str, int], sample: int = 50) -> None:
            story.steps[name] = player.apply(deploy.rollout(stable, canaries))
            began = load.wait_for(sample)
            story.shares[name] = {w: load.since(began, w) for w in ("http", "grpc")}

        step("again", "v1", {})
        step("dark", "v1", {"v2": 0})
        step("ten", "v1", {"v2": 10}, SAMPLE)
        step("fifty", "v1", {"v2": 50}, SAMPLE)
        step("promoted", "v2", {"v1": 0})
        step("cleaned", "v2", {})
        step("bad", "v2", {"v3": 30}, SAMPLE)
        step("rolled back", "v2", {"v3": 0})
        step("removed", "v2", {})
        step("in and out", "v2", {"v3": 50})
        step("out at once", "v2", {})
    yield story
    _check_ended(player)


def _check_ended(player: LocalPlayer) -> None:
    began = time.monotonic()
    player.down()
    assert time.monotonic() - began < 5


def test_no_request_fails_through_the_whole_rollout(story: Story) -> None:
    assert len(story.load.answers) > 2500
    assert story.load.failures == []


def test_every_answer_names_its_arm(story: Story) -> None:
    assert {a.arm for a in story.load.answers} == {"v1", "v2", "v3"}
    assert {a.wire for a in story.load.answers} == {"http", "grpc"}


def test_applying_the_same_manifest_again_changes_nothing(story: Story) -> None:
    assert story.steps["again"] == story.steps["up"]


@pytest.mark.parametrize(
    ("step", "arm", "share"), [("ten", "v2", 0.1), ("fifty", "v2", 0.5), ("bad", "v3", 0.3)]
)
def test_traffic_is_split_as_the_manifest_states(
    story: Story, step: str, arm: str, share: float
) -> None:
    counts = story.shares[step]["http"] + story.shares[step]["grpc"]
    total = counts.total()
    assert total >= SAMPLE - 8  # those on their way when the counting began
    # 4.5 standard deviations of a binomial: one false alarm in 150,000 runs.
    bound = 4.5 * math.sqrt(share * (1 - share) / total)
    assert abs(counts[arm] / total - share) < bound


def test_both_wires_are_split(story: Story) -> None:
    assert story.shares["fifty"]["grpc"].keys() == {"v1", "v2"}
    assert story.shares["fifty"]["http"].keys() == {"v1", "v2"}


def test_a_dark_canary_is_warm_and_gets_no_request(story: Story) -> None:
    assert story.steps["dark"].arm("v2").ready
    assert story.shares["dark"]["http"].keys() == {"v1"}
    assert story.steps["dark"].weights == {"v1": 100, "v2": 0}


def test_promotion_restarts_nothing(story: Story) -> None:
    before, after = story.steps["fifty"], story.steps["promoted"]
    for name in ("v1", "v2"):
        assert after.arm(name).pids == before.arm(name).pids
        assert after.arm(name).restarts == {"kserve-container": 0}
    assert after.arm("v2").role == "stable"
    assert after.weights == {"v2": 100, "v1": 0}
    assert story.steps["cleaned"].arm("v2").pids == before.arm("v2").pids


def test_after_promotion_only_the_new_version_answers(story: Story) -> None:
    assert story.shares["promoted"]["http"].keys() == {"v2"}
    assert story.shares["promoted"]["grpc"].keys() == {"v2"}


def test_a_removed_arm_leaves_no_process(story: Story) -> None:
    assert [arm.name for arm in story.steps["cleaned"].arms] == ["v2"]
    for pid in story.steps["promoted"].arm("v1").pids.values():
        assert not Path(f"/proc/{pid}").exists()


def test_a_rollback_takes_all_traffic_from_the_canary(story: Story) -> None:
    assert story.shares["rolled back"]["http"].keys() == {"v2"}
    assert story.steps["rolled back"].arm("v3").ready


def test_status_tells_bundles_and_what_is_not_played(story: Story) -> None:
    status = story.steps["ten"]
    assert status.arm("v1").digest != status.arm("v2").digest
    assert status.arm("v2").storage_uri == "pvc://bundles/v2"
    assert status.not_played == (
        "ServingRuntime/seatrial-onnx spec.containers[kserve-container].resources",
    )
