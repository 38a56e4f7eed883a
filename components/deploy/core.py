"""From a bundle's storageUri to an edit of rollout.yaml, in a folder, in Git, or on the cluster."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from serving.errors import GateError, UsageError
from serving.rollout import (
    Arm,
    Dialect,
    RolloutState,
    read_manifest,
    read_rollout,
    rolled_back,
    with_canary,
    write_rollout,
)
from serving.rollout.actuators import GitActuator, Health
from serving.rollout.run.lease import held, holder
from serving.rollout.run.store import FOLDER as RUNS
from serving.rollout.run.store import Runs
from serving.rollout.state import LATEST

CANARY, STABLE = "canary", "stable"
MODES = ("folder", "git", "push", "cluster")
TRAILER = "Bundle-URI"


class Writer(Protocol):
    """The part of an actuator that reads and writes the rollout's state."""

    def read(self) -> RolloutState: ...

    def write(self, state: RolloutState, message: str, trailers: Mapping[str, str]) -> str: ...


def run(
    *,
    folder: Path,
    uri: str,
    name: str = "",
    percent: int = 0,
    become: str = CANARY,
    mode: str = "folder",
    context: str = "",
) -> dict[str, Any]:
    """Writes a bundle into the rollout of a deploy folder.

    folder: deploy folder with manifest.yaml and rollout.yaml.
    uri: storageUri of the bundle.
    name: the predictor's name; made from the bundle's digest when empty.
    percent: traffic of a new canary; 0 leaves its steps to the gate.
    become: canary, or stable to go back at once; today's stable then stays warm at 0 %.
    mode: folder (write rollout.yaml), git (and commit it), push (and push), cluster (apply it).
    context: kubeconfig's context, for mode cluster; empty for the current one.

    Returns the predictor's name and the name of the write: a digest, a commit or a resource
    version. A bundle that is listed already is left as it is. Raises UsageError, ManifestError for
    a step that must not be taken, GateError when Git, the cluster or a gate at work refuses.
    """
    if mode not in MODES:
        raise UsageError(f"mode '{mode}' is unknown; choose one of {', '.join(MODES)}")
    _expect_no_gate(folder)
    return deploy(_writer(folder, mode, context), uri, name=name, percent=percent, become=become)


def deploy(
    writer: Writer, uri: str, *, name: str = "", percent: int = 0, become: str = CANARY
) -> dict[str, Any]:
    """As `run`, by any writer."""
    before = writer.read()
    after = with_bundle(before, uri, name=name, percent=percent, become=become)
    arm = next(arm for arm in after.arms if arm.storage_uri == uri)
    title = f"canary {arm.name}: {percent} %" if become == CANARY else f"back to {arm.name}"
    written = writer.write(after, f"{title}\n\n{uri}", {TRAILER: uri})
    return {"name": arm.name, "written": written, "changed": before != after}


def with_bundle(
    state: RolloutState, uri: str, *, name: str = "", percent: int = 0, become: str = CANARY
) -> RolloutState:
    """The state with the bundle in its role. Raises UsageError or ManifestError."""
    if become not in (CANARY, STABLE):
        raise UsageError(f"become '{become}' is no role; choose {CANARY} or {STABLE}")
    if not 0 <= percent <= 100:
        raise UsageError(f"percent {percent} is no share of the traffic; give 0 to 100")
    listed = next((arm for arm in state.arms if arm.storage_uri == uri), None)
    if become == STABLE:
        return rolled_back(state, listed or Arm(name or name_of(uri), uri))
    if listed is not None:
        return state
    chosen = LATEST if state.dialect is Dialect.KNATIVE else name or name_of(uri)
    # As many pods as stable runs: a canary with fewer could never be promoted.
    return with_canary(state, Arm(chosen, uri, state.floor), percent)


def name_of(uri: str) -> str:
    """One bundle, one name: from the digest at the URI's end, else from the URI."""
    found = re.search(r"-([0-9a-f]{12})/?$", uri)
    return "b" + (found[1] if found else hashlib.sha256(uri.encode()).hexdigest())[:8]


class FolderWriter:
    """rollout.yaml as a file; whoever applies the folder makes it happen."""

    def __init__(self, folder: Path, applied: Callable[[], None] | None = None) -> None:
        self._folder, self._applied = folder, applied

    def read(self) -> RolloutState:
        return read_rollout(self._folder)

    def write(self, state: RolloutState, message: str, trailers: Mapping[str, str]) -> str:
        write_rollout(self._folder, state)
        if self._applied is not None:
            self._applied()
        return hashlib.sha256((self._folder / "rollout.yaml").read_bytes()).hexdigest()


class _Unwatched:
    """A Plane that nobody asks: a deployment ends with its write."""

    def settled(self, state: RolloutState) -> bool:
        return False

    def health(self, stable: str, canary: str) -> Health:
        raise GateError("nobody watches the traffic here")


def _writer(folder: Path, mode: str, context: str) -> Writer:
    if mode == "folder":
        return FolderWriter(folder)
    if mode in ("git", "push"):
        return GitActuator(folder, _Unwatched(), push=mode == "push")
    # Imported late: the client takes a second, and only clusters need it.
    from serving.rollout.actuators.cluster import Cluster  # noqa: PLC0415
    from serving.rollout.actuators.kubernetes import KubernetesActuator  # noqa: PLC0415

    return KubernetesActuator(Cluster.connect(context or None), read_manifest(folder))


def _expect_no_gate(folder: Path) -> None:
    runs = Runs(folder / RUNS)
    if held(runs.lease_file):
        raise GateError(
            f"{folder}: {holder(runs.lease_file)} leads a canary there; let the run end, or abort"
            " it with 'seatrial rollout abort'"
        )
