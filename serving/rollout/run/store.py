"""The folder of a rollout's runs on disk.

lease                       who may act
current                     id of the latest run
runs/RUN/record.json        what the gate remembers between two looks
runs/RUN/plan.yaml          the plan as it was started
runs/RUN/settings.json      how the run was started: actuator and source
runs/RUN/audit.jsonl        one line a look, hash-chained
runs/RUN/heartbeat          touched while a gate is at work
runs/RUN/requests/          what people ask of it; each file is one request
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serving.errors import GateError
from serving.rollout.gate.plan import PLAN_FILE, Plan, read_plan
from serving.rollout.gate.state import GateState
from serving.whole import write_text

FOLDER = ".rollout"


@dataclass(frozen=True)
class Asked:
    """One request of a person, as its file says."""

    file: Path
    kind: str
    """pause, resume, approve, promote or abort."""
    by: str
    step: int | None = None


class Run:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def audit_file(self) -> Path:
        return self.path / "audit.jsonl"

    def plan(self) -> Plan:
        return read_plan(self.path / PLAN_FILE)

    def set_plan(self, plan: Plan) -> None:
        write_text(self.path / PLAN_FILE, json.dumps(plan.to_json(), indent=1) + "\n")

    def settings(self) -> dict[str, Any]:
        return dict(_read(self.path / "settings.json"))

    def load(self) -> GateState:
        """Raises GateError when there is no record, DataError when it is none."""
        file = self.path / "record.json"
        return GateState.from_json(_read(file), file)

    def save(self, state: GateState) -> GateState:
        """Writes the record if it is still the one that `state` was made from.

        Returns the state with its new version. Raises GateError when another writer was here.
        """
        file = self.path / "record.json"
        if file.exists():
            found = _read(file)["version"]
            if found != state.version:
                raise GateError(
                    f"{file}: version {found} and not {state.version}; another gate has written it"
                )
        written = replace(state, version=state.version + 1)
        write_text(file, json.dumps(written.to_json(), indent=1) + "\n")
        return written

    def beat(self) -> None:
        """Says that a gate is at work."""
        (self.path / "heartbeat").touch()

    def silence(self, now: float) -> float:
        """Seconds since the last heartbeat."""
        try:
            return max(0.0, now - (self.path / "heartbeat").stat().st_mtime)
        except FileNotFoundError:
            return float("inf")

    def ask(self, kind: str, by: str, step: int | None = None) -> Path:
        """Leaves a request for the gate."""
        folder = self.path / "requests"
        folder.mkdir(exist_ok=True)
        file = folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"
        write_text(file, json.dumps({"kind": kind, "by": by, "step": step}) + "\n")
        return file

    def asked(self) -> list[Asked]:
        """The requests that wait, oldest first."""
        found = []
        for file in sorted((self.path / "requests").glob("[0-9]*.json")):
            one = _read(file)
            found.append(Asked(file, str(one["kind"]), str(one["by"]), one.get("step")))
        return found


class Runs:
    """The runs of one rollout."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def lease_file(self) -> Path:
        return self.path / "lease"

    def create(self, run: str, plan: Plan, settings: Mapping[str, Any], state: GateState) -> Run:
        """A new run, current from the moment its files are there."""
        folder = self.path / "runs" / run
        folder.mkdir(parents=True)
        # The folder lies in a deploy folder and is no part of what is deployed.
        (self.path / ".gitignore").write_text("*\n")
        made = Run(folder)
        made.set_plan(plan)
        write_text(folder / "settings.json", json.dumps(dict(settings), indent=1) + "\n")
        made.save(state)
        write_text(self.path / "current", run + "\n")
        return made

    def current(self) -> Run | None:
        """The latest run, also when it has ended."""
        try:
            name = (self.path / "current").read_text().strip()
        except FileNotFoundError:
            return None
        return Run(self.path / "runs" / name)

    def get(self, run: str | None = None) -> Run:
        """The run of that id, or the latest. Raises GateError naming those there are."""
        found = self.current() if run is None else Run(self.path / "runs" / run)
        if found is None or not (found.path / "record.json").exists():
            known = ", ".join(one.id for one in self.all()) or "none"
            raise GateError(
                f"{self.path}: no run{'' if run is None else f' {run!r}'} (there: {known}); start"
                " one with 'seatrial rollout start'"
            )
        return found

    def all(self) -> list[Run]:
        """Oldest first."""
        folder = self.path / "runs"
        return [Run(file.parent) for file in sorted(folder.glob("*/record.json"))]


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise GateError(f"{file}: no such file; the run is incomplete") from None
    except (OSError, ValueError) as error:
        raise GateError(f"{file}: cannot be read ({error}); restore it") from None
