"""Commit mode in real repositories."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from serving.errors import GateError
from serving.rollout import (
    Arm,
    RolloutState,
    read_rollout,
    with_canary,
    with_weight,
    write_rollout,
)
from serving.rollout.actuators import GitActuator, Health
from serving.rollout.gate import Phase
from serving.rollout.gate.chain import verify_chain
from serving.rollout.run.lead import lead
from serving.rollout.run.lease import FileLease
from serving.rollout.run.store import Runs
from tests.support.gates import Traffic, plan

STABLE = RolloutState("tiny", "seatrial", Arm("v1", "pvc://b/v1"))
DARK = with_canary(STABLE, Arm("v2", "pvc://b/v2"))
TEN = with_weight(DARK, "v2", 10)
TRAILERS: Mapping[str, str] = {"Canary-Run": "r1", "Evidence-SHA256": "ab" * 32}


class Watched:
    """A data plane that has always done what it was asked."""

    def settled(self, state: RolloutState) -> bool:
        return True

    def health(self, stable: str, canary: str) -> Health:
        return Health(stable_ready=True, canary_ready=True)


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a person", "-c", "user.email=person@localhost")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A bare repository whose main branch deploys v1 and a dark v2."""
    bare, seed = tmp_path / "origin.git", tmp_path / "seed"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    git(tmp_path, "clone", "--quiet", str(bare), str(seed))
    (seed / "overlay").mkdir()
    write_rollout(seed / "overlay" / "rollout.yaml", DARK)
    git(seed, "checkout", "-q", "-B", "main")
    git(seed, "add", "--all")
    git(seed, "commit", "--quiet", "-m", "first")
    git(seed, "push", "--quiet", "-u", "origin", "main")
    return bare


def clone(origin: Path, name: str) -> Path:
    folder = origin.parent / name
    git(origin.parent, "clone", "--quiet", str(origin), str(folder))
    return folder / "overlay"


def test_a_move_is_one_commit_of_one_line_with_its_evidence(origin: Path) -> None:
    folder = clone(origin, "work")
    name = GitActuator(folder, Watched()).write(TEN, "canary v2: 10 %", TRAILERS)
    assert name == git(folder, "rev-parse", "HEAD")
    assert git(folder, "log", "-1", "--format=%s|%an") == "canary v2: 10 %|seatrial gate"
    trailers = "%(trailers:key=Canary-Run,valueonly)%(trailers:key=Evidence-SHA256,valueonly)"
    assert git(folder, "log", "-1", f"--format={trailers}").split() == ["r1", "ab" * 32]
    changed = git(folder, "show", "--format=", "--unified=0").splitlines()
    lines = [ln for ln in changed if ln[:1] in "+-" and ln[:3] not in ("+++", "---")]
    assert [line.split() for line in lines] == [
        ["-", "-", "trafficPercent:", "0"],
        ["+", "-", "trafficPercent:", "10"],
    ]


def test_writing_the_same_state_again_makes_no_commit(origin: Path) -> None:
    folder = clone(origin, "work")
    actuator = GitActuator(folder, Watched())
    first = actuator.write(TEN, "canary v2: 10 %", TRAILERS)
    assert actuator.write(TEN, "canary v2: 10 %", TRAILERS) == first
    assert git(folder, "rev-list", "--count", "HEAD") == "2"


def test_a_write_that_was_cut_short_before_its_commit_is_finished(origin: Path) -> None:
    folder = clone(origin, "work")
    write_rollout(folder, TEN)
    GitActuator(folder, Watched()).write(TEN, "canary v2: 10 %", TRAILERS)
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "rev-list", "--count", "HEAD") == "2"


def test_other_changes_in_the_work_tree_stay_out_of_the_commit(origin: Path) -> None:
    folder = clone(origin, "work")
    (folder / "notes.txt").write_text("mine")
    git(folder, "add", "notes.txt")
    GitActuator(folder, Watched()).write(TEN, "canary v2: 10 %", TRAILERS)
    assert git(folder, "show", "--format=", "--name-only") == "overlay/rollout.yaml"
    assert git(folder, "status", "--porcelain") == "A  overlay/notes.txt"


def test_a_push_goes_on_top_of_what_others_pushed(origin: Path) -> None:
    mine, theirs = clone(origin, "mine"), clone(origin, "theirs")
    (theirs / "other.txt").write_text("x")
    git(theirs, "add", "--all")
    git(theirs, "commit", "--quiet", "-m", "other")
    git(theirs, "push", "--quiet")
    GitActuator(mine, Watched(), push=True).write(TEN, "canary v2: 10 %", TRAILERS)
    assert git(origin, "log", "--format=%s", "main").splitlines() == [
        "canary v2: 10 %",
        "other",
        "first",
    ]


def test_reading_sees_what_others_pushed(origin: Path) -> None:
    mine, theirs = clone(origin, "mine"), clone(origin, "theirs")
    actuator = GitActuator(mine, Watched(), push=True)
    assert actuator.read() == DARK
    GitActuator(theirs, Watched(), push=True).write(TEN, "by hand", {})
    assert actuator.read() == TEN


def test_an_edit_of_the_same_line_elsewhere_stops_it_by_name(origin: Path) -> None:
    mine, theirs = clone(origin, "mine"), clone(origin, "theirs")
    write_rollout(theirs, with_weight(DARK, "v2", 77))
    git(theirs, "commit", "--quiet", "-a", "-m", "by hand")
    GitActuator(mine, Watched()).write(TEN, "canary v2: 10 %", TRAILERS)
    git(theirs, "push", "--quiet")
    with pytest.raises(GateError, match="a person has pushed another edit"):
        GitActuator(mine, Watched(), push=True).read()
    assert read_rollout(mine) == TEN
    assert git(mine, "status", "--porcelain") == ""


def test_applies_after_the_commit_where_nobody_else_does(origin: Path) -> None:
    folder = clone(origin, "work")
    seen: list[str] = []
    apply = lambda: seen.append(git(folder, "log", "-1", "--format=%s"))  # noqa: E731
    GitActuator(folder, Watched(), apply=apply).write(TEN, "canary v2: 10 %", TRAILERS)
    assert seen == ["canary v2: 10 %"]


def test_refuses_a_folder_that_is_in_no_repository(tmp_path: Path) -> None:
    write_rollout(tmp_path / "rollout.yaml", DARK)
    with pytest.raises(GateError, match="git"):
        GitActuator(tmp_path, Watched())


class Follows:
    """A data plane that does at once what the work tree says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def settled(self, state: RolloutState) -> bool:
        return read_rollout(self._folder) == state

    def health(self, stable: str, canary: str) -> Health:
        weights = read_rollout(self._folder).weights
        return Health(True, canary in weights, weight=weights.get(canary, 0))


@pytest.mark.parametrize("errors", [0.0, 0.2])
def test_the_commits_of_a_whole_run_prove_its_decisions(origin: Path, errors: float) -> None:
    folder = clone(origin, "work")
    actuator = GitActuator(folder, Follows(folder), push=True)
    runs = Runs(folder / ".rollout")
    traffic = Traffic(time.time() - 5, errors={"canary": errors})
    found = plan(remove_after_rollback=True)
    state = lead(runs, found, traffic, actuator, FileLease(runs.lease_file))
    assert state.phase is (Phase.ROLLED_BACK if errors else Phase.DONE)
    links = verify_chain(runs.get().audit_file, rollout=folder / "rollout.yaml")
    assert [link.name for link in links] == ["audit", "decisions", "manifest"]
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "rev-parse", "HEAD") == git(origin, "rev-parse", "main")
