from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from serving.bundle import Bundle
from serving.errors import BundleError, GateError
from serving.rollout import promoted, with_canary, with_weight, without_canary, write_rollout
from serving.rollout.gate import (
    ActionKind,
    AuditLog,
    Model,
    Phase,
    begin,
    verify,
    verify_chain,
)
from serving.rollout.state import Arm, RolloutState
from tests.serving.rollout.gate.looks import STABLE, Run, plan_of
from tests.support.tiny import tiny_bundle

K = ActionKind


@dataclass
class Release:
    """A finished rollout: audit log, bundle and the commits that it made."""

    audit: Path
    bundle: Bundle
    rollout: Path

    def verify(self) -> None:
        verify_chain(self.audit, bundle=self.bundle.path, rollout=self.rollout)

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments],
            cwd=self.rollout.parent,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def commit(self, state: RolloutState, trailers: Mapping[str, str]) -> None:
        if write_rollout(self.rollout, state):
            lines = "\n".join(f"{key}: {value}" for key, value in trailers.items())
            self.git("add", self.rollout.name)
            self.git("commit", "--quiet", "--message", f"move\n\n{lines}\n")


def next_state(state: RolloutState, kind: K, weight: int | None) -> RolloutState:
    if kind is K.PROMOTE:
        return promoted(state, "v2")
    if kind is K.CLEAN_UP:
        return without_canary(state, "v1")
    return with_weight(state, "v2", weight or 0)


@pytest.fixture
def release(tmp_path: Path) -> Release:
    bundle = tiny_bundle(tmp_path / "bundles")
    uri = f"pvc://seatrial-bundles/{bundle.path.name}"
    folder = tmp_path / "deploy"
    folder.mkdir()
    found = Release(tmp_path / "audit.jsonl", bundle, folder / "rollout.yaml")
    found.git("init", "--quiet", "--initial-branch=main")
    state = RolloutState("fraud", "seatrial", Arm("v1", STABLE.storage_uri))
    state = with_canary(state, Arm("v2", uri))
    found.commit(state, {})
    run = Run(plan_of())
    run.state = begin(
        run.plan,
        run="r1",
        service="fraud",
        stable=STABLE,
        canary=Model("v2", uri, bundle.digest),
    )
    run.log = AuditLog(found.audit)
    run.log.append(run.log.begun(run.plan, run.state))
    while run.phase is not Phase.DONE:
        action = run.split(1000)
        if action.kind is not K.HOLD:
            state = next_state(state, action.kind, action.weight)
            found.commit(state, {"Canary-Run": "r1", "Evidence-SHA256": run.log.head})
    return found


def test_proves_the_chain_from_data_to_decision(release: Release) -> None:
    data = release.bundle.read_json("lineage.json")["data"]
    links = verify_chain(
        release.audit, bundle=release.bundle.path, rollout=release.rollout, data=data
    )
    assert [link.name for link in links] == ["data", "bundle", "audit", "decisions", "manifest"]
    assert data in links[0].detail
    assert release.bundle.digest in links[1].detail
    assert "6 commits" in links[-1].detail


def test_the_log_alone_proves_its_decisions(release: Release) -> None:
    assert [link.name for link in verify_chain(release.audit)] == ["audit", "decisions"]


def test_finds_other_data_than_the_model_was_trained_on(release: Release) -> None:
    with pytest.raises(GateError, match="trained on data"):
        verify_chain(release.audit, bundle=release.bundle.path, data="e" * 64)


def test_finds_an_altered_bundle(release: Release) -> None:
    lineage = release.bundle.path / "lineage.json"
    lineage.write_text(lineage.read_text().replace('"data"', '"date"'))
    with pytest.raises(BundleError, match="lineage.json"):
        release.verify()


def test_finds_another_bundle_than_the_one_that_was_judged(
    release: Release, tmp_path: Path
) -> None:
    other = tiny_bundle(tmp_path / "other", bias=0.5)
    with pytest.raises(GateError, match="is not the one this run judged"):
        verify_chain(release.audit, bundle=other.path)


def test_finds_a_changed_audit_line(release: Release) -> None:
    release.audit.write_text(release.audit.read_text().replace('"errors":0', '"errors":1', 1))
    with pytest.raises(GateError, match="line 2"):
        release.verify()


def test_finds_an_edit_that_the_gate_did_not_make(release: Release) -> None:
    text = release.rollout.read_text()
    last = release.git("log", "-1", "--format=%B")
    release.git("reset", "--quiet", "--hard", "HEAD~1")
    for content, message in ((f"# mine\n{release.rollout.read_text()}", "by hand"), (text, last)):
        release.rollout.write_text(content)
        release.git("commit", "--quiet", "--all", "--message", message)
    with pytest.raises(GateError, match="changed it during run r1 without the gate"):
        release.verify()


def test_finds_a_commit_whose_evidence_is_not_in_the_log(release: Release) -> None:
    release.git(
        "commit",
        "--quiet",
        "--amend",
        "--message",
        f"move\n\nCanary-Run: r1\nEvidence-SHA256: {'f' * 64}\n",
    )
    with pytest.raises(GateError, match="names evidence ffffffffffff"):
        release.verify()


def test_finds_a_commit_that_does_something_else_than_was_decided(release: Release) -> None:
    text = release.rollout.read_text()
    release.rollout.write_text(text.replace(release.bundle.path.name, "fraud-of-mine"))
    release.git("commit", "--quiet", "--all", "--amend", "--no-edit")
    with pytest.raises(GateError, match="does not do what line"):
        release.verify()


def test_finds_a_removed_commit(release: Release) -> None:
    release.git("rebase", "--quiet", "--strategy-option=theirs", "--onto", "HEAD~3", "HEAD~2")
    with pytest.raises(GateError, match="no commit does it|does not do what"):
        release.verify()


def test_a_move_not_committed_yet_is_no_break(release: Release) -> None:
    release.git("reset", "--quiet", "--hard", "HEAD~1")
    release.verify()


def test_a_write_that_was_tried_again_at_a_later_look_is_no_break(release: Release) -> None:
    """The look after the last move holds, and its hash is the one the late commit names."""
    entries = verify(release.audit)
    assert entries[-1].body["decision"]["action"]["kind"] == "hold"
    release.git(
        "commit",
        "--quiet",
        "--amend",
        "--message",
        f"move\n\nCanary-Run: r1\nEvidence-SHA256: {entries[-1].hash}\n",
    )
    release.verify()


def test_finds_commits_out_of_the_order_of_their_evidence(release: Release) -> None:
    first = release.git("log", "--reverse", "--format=%(trailers)").split("\n\n")[1].strip()
    release.git("commit", "--quiet", "--amend", "--message", f"move\n\n{first}\n")
    with pytest.raises(GateError, match="not in the order"):
        release.verify()


def test_a_rollout_outside_of_git_is_refused(release: Release, tmp_path: Path) -> None:
    with pytest.raises(GateError, match="not a git repository"):
        verify_chain(release.audit, rollout=tmp_path / "rollout.yaml")
