"""From data fingerprint to bundle to manifest commit to decision: one chain, each link checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from serving.bundle import open_bundle
from serving.errors import GateError, ManifestError
from serving.rollout.dialects import from_patch
from serving.rollout.documents import parse_documents
from serving.rollout.gate.audit import Entry, verify
from serving.rollout.gate.replay import replay
from serving.rollout.gate.state import HOLD, Action, ActionKind, Model
from serving.rollout.git_command import run_git
from serving.rollout.state import RolloutState

RUN_TRAILER = "Canary-Run"
EVIDENCE_TRAILER = "Evidence-SHA256"


@dataclass(frozen=True)
class Link:
    """One link that holds."""

    name: str
    """data, bundle, audit, decisions or manifest."""
    detail: str


@dataclass(frozen=True)
class _Commit:
    sha: str
    author: str
    run: str
    evidence: str


def verify_chain(
    audit: Path,
    *,
    bundle: Path | None = None,
    rollout: Path | None = None,
    data: str | None = None,
    head: str | None = None,
) -> list[Link]:
    """The links of the chain, once each holds.

    `bundle` is the canary's bundle folder, `rollout` the rollout.yaml in its Git work tree, `data`
    the fingerprint that the training data must have had, `head` the audit log's last hash.
    Raises GateError (BundleError for a bundle that was altered) at the first link that is broken.
    """
    entries = verify(audit, head)
    first = entries[0]
    if first.kind != "run":
        raise GateError(f"{audit}: line 1 is a '{first.kind}' and not the run; restore the log")
    canary = Model.from_json(first.body["canary"])
    links = [] if bundle is None else _bundle(bundle, canary, data)
    links.append(Link("audit", f"{len(entries)} lines, none changed; last {entries[-1].hash}"))
    replayed = replay(entries)
    if replayed.different:
        number = replayed.different[0].number
        raise GateError(
            f"{audit}: line {number}: deciding again gives another decision; the log was made by"
            " another gate"
        )
    links.append(Link("decisions", f"{len(replayed.steps)} decided again, each the same"))
    if rollout is not None:
        links.append(_manifest(rollout.resolve(), str(first.body["run"]), entries, canary))
    return links


def _bundle(path: Path, canary: Model, data: str | None) -> list[Link]:
    found = open_bundle(path)
    if found.digest != canary.bundle:
        raise GateError(
            f"{path}: bundle {found.digest[:12]} is not the one this run judged"
            f" ({canary.bundle[:12] or 'unknown'}); give that one's folder"
        )
    lineage = found.read_json("lineage.json")
    fingerprint = lineage.get("data") if isinstance(lineage, dict) else None
    if not isinstance(fingerprint, str) or not re.fullmatch(r"[0-9a-f]{64}", fingerprint):
        raise GateError(f"{path}: lineage.json names no data fingerprint; retrain the model")
    if data is not None and data != fingerprint:
        raise GateError(
            f"{path}: trained on data {fingerprint[:12]} and not {data[:12]}; give that data's"
            " fingerprint"
        )
    # A folder named by its digest must hold the bundle that the manifest asks for.
    named = re.search(r"-([0-9a-f]{12})/?$", canary.storage_uri)
    if named and not found.digest.startswith(named[1]):
        raise GateError(
            f"storageUri {canary.storage_uri} names bundle {named[1]} and not"
            f" {found.digest[:12]}; the run judged another model than it deployed"
        )
    return [
        Link("data", f"sha256 {fingerprint}"),
        Link("bundle", f"sha256 {found.digest} at {canary.storage_uri}"),
    ]


def _manifest(file: Path, run: str, entries: Sequence[Entry], canary: Model) -> Link:
    """Every move has its commit, every commit of the run its move, in the same order."""
    commits = _commits(file)
    mine = [i for i, commit in enumerate(commits) if commit.run == run]
    known = {entry.hash: entry for entry in entries}
    for commit in commits[mine[0] : mine[-1] + 1] if mine else []:
        if commit.run != run:
            raise GateError(
                f"{file}: commit {commit.sha[:12]} of {commit.author} changed it during run {run}"
                " without the gate; only one may write it"
            )
        if commit.evidence not in known:
            raise GateError(
                f"{file}: commit {commit.sha[:12]} names evidence {commit.evidence[:12] or 'none'},"
                " which is not in the audit log"
            )
    numbers = [known[commits[i].evidence].number for i in mine]
    if numbers != sorted(numbers):
        raise GateError(f"{file}: the commits of run {run} are not in the order of their evidence")
    at = mine[0] - 1 if mine else len(commits) - 1
    state = _state(file, commits[at].sha) if at >= 0 else None
    moves = [entry for entry in entries if _action(entry).kind is not ActionKind.HOLD]
    if mine and (not moves or numbers[0] < moves[0].number):
        raise GateError(f"{file}: commit {commits[mine[0]].sha[:12]} comes before any decision")
    for move, following in zip_longest(moves, moves[1:]):
        action, end = _action(move), following.number if following else entries[-1].number + 1
        # A write that failed is tried again at later looks and then names their evidence.
        made = [commits[i] for i, n in zip(mine, numbers, strict=True) if move.number <= n < end]
        for commit in made:
            state = _state(file, commit.sha)
            if not _done(action, state, canary):
                raise GateError(
                    f"{file}: commit {commit.sha[:12]} does not do what line {move.number} decided"
                    f" ({action})"
                )
        overruled = following is None or _dark(_action(following))
        if not (made or overruled or (state and _done(action, state, canary))):
            raise GateError(
                f"{file}: line {move.number} decided '{action}', and no commit does it; commits"
                " were removed"
            )
    return Link("manifest", f"{len(mine)} commits of run {run}, each with its evidence")


def _dark(action: Action) -> bool:
    """Whether it may come before the move ahead of it is written."""
    return action.kind in (ActionKind.ROLL_BACK, ActionKind.ASK) or action.weight == 0


def _action(entry: Entry) -> Action:
    if entry.kind != "look":
        return HOLD
    return Action.from_json(entry.body["decision"]["action"])


def _done(action: Action, state: RolloutState, canary: Model) -> bool:
    """Whether a rollout.yaml is as the action leaves it."""
    uris = {arm.name: arm.storage_uri for arm in state.arms}
    if uris.get(canary.name, canary.storage_uri) != canary.storage_uri:
        return False
    weight = state.weights.get(canary.name)
    if action.kind is ActionKind.SET_WEIGHT:
        return weight == action.weight and state.stable.name != canary.name
    if action.kind is ActionKind.PROMOTE:
        return state.stable.name == canary.name and weight == 100
    if action.kind is ActionKind.CLEAN_UP:
        return weight in (None, 100)
    return state.stable.name != canary.name and not weight


def _commits(file: Path) -> list[_Commit]:
    """Those that changed the file, oldest first."""
    trailers = "%x1f".join(
        f"%(trailers:key={key},valueonly,separator=%x20)" for key in (RUN_TRAILER, EVIDENCE_TRAILER)
    )
    layout = f"--format=%H%x1f%an%x1f{trailers}"
    text = run_git(file.parent, "log", "--reverse", layout, "--", file.name)
    found = []
    for line in text.splitlines():
        sha, author, run, evidence = line.split("\x1f")
        found.append(_Commit(sha, author, run.strip(), evidence.strip()))
    return found


def _state(file: Path, sha: str) -> RolloutState:
    name = f"{file.name} of commit {sha[:12]}"
    documents = parse_documents(run_git(file.parent, "show", f"{sha}:./{file.name}"), Path(name))
    if len(documents) != 1:
        raise ManifestError(f"{name}: {len(documents)} documents; a rollout is one patch")
    return from_patch(documents[0], name)
