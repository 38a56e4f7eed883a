"""The registry's commands, and the way back with a real player."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from components.register.mlflow_registry import MlflowRegistry
from seatrial.cli.registry import back, registry
from serving.errors import UsageError
from serving.local.client import LocalPlayer
from serving.local.orphans import end_at_once
from serving.rollout import Arm, RolloutState, read_rollout, write_rollout
from serving.rollout.run.lease import FileLease
from serving.rollout.run.store import FOLDER as RUNS
from serving.rollout.run.store import Runs
from tests.serving.local.deploy import Deploy
from tests.serving.local.load import ask
from tests.support.tiny import tiny_bundle


def call(command: Any, *words: object) -> Result:
    return CliRunner().invoke(
        command, [str(word) for word in words], catch_exceptions=False, standalone_mode=False
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Deploy:
    """A deploy folder at v2, whose bundles v1 and v2 are registered."""
    made = Deploy(tmp_path_factory.mktemp("site") / "deploy")
    uri = f"sqlite:///{made.path.parent / 'registry.db'}"
    for name, bias in (("v1", 0.0), ("v2", 0.7)):
        bundle = tiny_bundle(made.path / "bundles" / "tiny", bias)
        where = ("--storage", "pvc://bundles", "--registry", uri)
        said = call(registry, "add", bundle.path, *where).output
        storage_uri = f"pvc://bundles/tiny/{bundle.path.name}"
        assert said == f"tiny {name[1]}\t{bundle.digest[:12]}\t{storage_uri}\n"
    write_rollout(made.path, RolloutState("tiny", "seatrial", Arm("v2", storage_uri)))
    return made


@pytest.fixture
def uri(site: Deploy) -> str:
    return f"sqlite:///{site.path.parent / 'registry.db'}"


def versions(uri: str) -> dict[int, Any]:
    return {v.number: v for v in MlflowRegistry(uri).versions("tiny")}


def test_list_and_show_tell_the_lineage(uri: str) -> None:
    found = json.loads(call(registry, "list", "--registry", uri, "--json").output)
    assert [(one["version"], one["aliases"]) for one in found] == [(2, ["challenger"]), (1, [])]
    shown = json.loads(call(registry, "show", "1", "--registry", uri, "--json").output)
    assert shown == found[1]
    assert {"digest", "data", "code", "run", "parent", "uri", "made"} <= set(shown)
    assert found[0]["digest"][:12] in call(registry, "list", "--registry", uri).output


def test_champion_moves_the_alias_and_no_traffic(site: Deploy, uri: str) -> None:
    before = (site.path / "rollout.yaml").read_bytes()
    for number in (1, 2):
        call(registry, "champion", number, "--registry", uri)
        assert [n for n, v in versions(uri).items() if "champion" in v.aliases] == [number]
    assert (site.path / "rollout.yaml").read_bytes() == before


def test_a_version_that_is_none_is_named_and_nothing_is_written(site: Deploy, uri: str) -> None:
    before = (site.path / "rollout.yaml").read_bytes()
    with pytest.raises(UsageError, match="model 'tiny' has no version 'abcdef12'; there are: 2"):
        call(back, "abcdef12", site.path, "--registry", uri, "--actuator", "none")
    assert (site.path / "rollout.yaml").read_bytes() == before


@pytest.fixture
def player(site: Deploy, tmp_path: Path) -> Iterator[LocalPlayer]:
    found = LocalPlayer(tmp_path / "state", notify=lambda _: None)
    found.up(site.path)
    yield found
    found.down()
    end_at_once(found.state_dir)


def test_one_command_leads_back_to_an_earlier_bundle_and_forth_within_a_minute(
    site: Deploy, uri: str, player: LocalPlayer
) -> None:
    state = ("--registry", uri, "--state", player.state_dir)
    for number, weights in ((1, {"v1": 100, "v2": 0}), (2, {"v2": 100, "v1": 0})):
        digest, began = versions(uri)[number].entry.digest, time.monotonic()
        said = call(back, digest[:12], site.path, *state).output
        assert time.monotonic() - began < 60
        assert f"({digest[:12]}, version {number}) is stable and champion; applied in" in said
        arms = {arm.name: arm for arm in player.status().arms}
        assert {name: arm.weight for name, arm in arms.items()} == weights
        served = arms[f"v{number}"]
        assert (served.ready, served.digest) == (True, digest)
        assert ask(site.gateway, "/v2/models/tiny/ready")[0] == 200
        assert "champion" in versions(uri)[number].aliases


def test_a_gate_that_leads_a_canary_is_told_to_abort_first(
    site: Deploy, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(site.path / RUNS)
    lease = FileLease(runs.lease_file)
    lease.take()
    asked: list[str] = []

    def request(folder: Path, kind: str) -> None:
        asked.append(kind)
        lease.release()

    monkeypatch.setattr("seatrial.cli.gate.request", request)
    call(back, "1", site.path, "--registry", uri, "--actuator", "none")
    assert asked == ["abort"]
    assert read_rollout(site.path).stable.storage_uri == versions(uri)[1].entry.uri
