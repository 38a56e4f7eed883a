"""The audit log: JSON lines, each holding the hash of the one before.

Beside the log, FILE.head holds the number of lines and the last hash, so that a line missing at
the end is found too. Whoever can rewrite both can rewrite history: the hashes in the rollout's
commits (trailer Evidence-SHA256) and in the record are the witnesses elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from serving.errors import GateError
from serving.rollout.gate.observation import Observation
from serving.rollout.gate.plan import Plan
from serving.rollout.gate.rules import share_of
from serving.rollout.gate.state import Action, GateState
from serving.whole import write_text

FORMAT = "seatrial.rollout-audit/1"
GENESIS = "0" * 64


@dataclass(frozen=True)
class Entry:
    """One line."""

    number: int
    """From 1."""
    kind: str
    """run (first), plan (it changed) or look."""
    body: Mapping[str, Any]
    previous: str
    """Hash of the line before; GENESIS at the first."""

    @cached_property
    def hash(self) -> str:
        """Hex sha256 over everything else in the line: Evidence-SHA256 of what the look did."""
        return hashlib.sha256(self._text().encode()).hexdigest()

    @property
    def line(self) -> str:
        """The line, its end included."""
        text = self._text()
        digest = hashlib.sha256(text.encode()).hexdigest()
        # As a canonical object would have it: the name sorts behind all the others.
        return f'{text[:-1]},"sha256":"{digest}"}}\n'

    @classmethod
    def from_line(cls, line: str) -> Entry:
        """Raises GateError unless every byte is as `line` would write it."""
        try:
            found = json.loads(line)
            entry = cls(found["number"], found["kind"], found["body"], found["previous"])
            same = entry.line == line
        except (ValueError, KeyError, TypeError, RecursionError):
            raise GateError("it is not an audit line") from None
        if not same:
            raise GateError("it was changed: its hash is not that of its content")
        vars(entry)["hash"] = found["sha256"]  # just computed: `hash` need not do it again
        return entry

    def _text(self) -> str:
        return json.dumps(
            {
                "number": self.number,
                "kind": self.kind,
                "body": self.body,
                "previous": self.previous,
            },
            sort_keys=True,
            separators=(",", ":"),
            allow_nan=False,
        )


class AuditLog:
    """Appends to one log. A line that was cut off as it was written is removed on opening.

    Write an entry into the record before appending it: `append` of an entry that is there already
    does nothing, so a gate that was killed in between appends it on its next start. Raises
    GateError when the log is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last: Entry | None = None
        if not path.exists():
            return
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with path.open("r+b") as file:
                file.truncate(whole)
        for entry in _entries(path, data[:whole].splitlines(keepends=True)):
            self._last = entry
        self._write_head()

    @property
    def last(self) -> Entry | None:
        return self._last

    @property
    def head(self) -> str:
        """Hash of the last line."""
        return self._last.hash if self._last else GENESIS

    def begun(self, plan: Plan, state: GateState) -> Entry:
        """The first line: what the run is about."""
        return self._next(
            "run",
            {
                "format": FORMAT,
                "run": state.run,
                "service": state.service,
                "uid": state.uid,
                "stable": state.stable.to_json(),
                "canary": state.canary.to_json(),
                "plan": plan.to_json(),
                "plan_digest": plan.digest,
            },
        )

    def planned(self, plan: Plan) -> Entry:
        """The plan from the next look on, when it is another one."""
        return self._next("plan", {"plan": plan.to_json(), "plan_digest": plan.digest})

    def looked(  # noqa: PLR0917
        self,
        plan: Plan,
        before: GateState,
        observation: Observation,
        after: GateState,
        action: Action,
        reason: str,
    ) -> Entry:
        """One look: what `decide` was given, people's orders included, and what it returned."""
        return self._next(
            "look",
            {
                "plan_digest": plan.digest,
                "stable": before.stable.to_json(),
                "canary": before.canary.to_json(),
                "orders": before.orders.to_json(),
                "observation": observation.to_json(),
                "decision": decision(plan, after, action, reason),
            },
        )

    def append(self, entry: Entry) -> None:
        """Appends and syncs. Raises GateError when the entry does not follow the last line."""
        if entry.hash == self.head:
            return
        number = self._last.number if self._last else 0
        if entry.previous != self.head or entry.number != number + 1:
            raise GateError(
                f"{self.path}: line {entry.number} does not follow line {number}; another gate"
                " wrote to the log, or it was altered: verify it"
            )
        new = not self.path.exists()
        with self.path.open("ab") as file:
            file.write(entry.line.encode())
            file.flush()
            os.fsync(file.fileno())
        if new:
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        self._last = entry
        self._write_head()

    def _next(self, kind: str, body: Mapping[str, Any]) -> Entry:
        number = self._last.number if self._last else 0
        return Entry(number + 1, kind, body, self.head)

    def _write_head(self) -> None:
        if self._last is None:
            return
        file, text = head_file(self.path), _head(self._last)
        if not file.exists() or file.read_text("utf-8") != text:
            write_text(file, text)


def decision(plan: Plan, after: GateState, action: Action, reason: str) -> dict[str, Any]:
    """What a look decided and on what evidence."""
    share = share_of(plan, after)
    return {
        "action": action.to_json(),
        "reason": reason,
        "phase": after.phase.value,
        "step": after.step,
        "share": share,
        "evidence": [reading.to_json() for reading in after.proofs.readings(plan, share)],
    }


def head_file(path: Path) -> Path:
    return path.with_name(path.name + ".head")


def stream(path: Path) -> Iterator[Entry]:
    """The entries of an intact chain, one by one: a long run's are gigabytes as objects.

    Raises GateError naming the first line that is not.
    """
    try:
        with path.open("rb") as file:
            yield from _entries(path, file)
    except OSError as error:
        raise GateError(f"{path}: cannot read the audit log: {error.strerror}") from None


def read(path: Path) -> list[Entry]:
    """All that `stream` gives."""
    return list(stream(path))


def verify(path: Path, head: str | None = None) -> list[Entry]:
    """The entries, once nothing was changed, removed, reordered or inserted.

    `head` is a hash that must be the last line's, from the record or elsewhere; without one the
    file FILE.head is asked. Raises GateError naming the line.
    """
    entries = read(path)
    if not entries:
        raise GateError(f"{path}: the audit log is empty; restore it")
    if head is not None:
        if entries[-1].hash != head:
            raise GateError(
                f"{path}: the last line is {entries[-1].hash[:12]} and not {head[:12]}; lines were"
                " removed or added at the end"
            )
        return entries
    file = head_file(path)
    try:
        said = file.read_bytes()
    except FileNotFoundError:
        said = b""
    # A gate that was killed between the line and the head leaves the head one line behind.
    behind = _head(entries[-2]) if len(entries) > 1 else ""
    if said not in (_head(entries[-1]).encode(), behind.encode()):
        raise GateError(
            f"{file}: does not name line {entries[-1].number} ({entries[-1].hash[:12]}) as the"
            " last; lines were removed or added at the end, or the head was changed"
        )
    return entries


def _entries(path: Path, lines: Iterable[bytes]) -> Iterator[Entry]:
    previous = GENESIS
    for number, raw in enumerate(lines, start=1):
        try:
            entry = Entry.from_line(raw.decode("utf-8"))
        except UnicodeDecodeError:
            raise GateError(f"{path}: line {number}: it is not text; restore the log") from None
        except GateError as error:
            raise GateError(f"{path}: line {number}: {error}; restore the log") from None
        if entry.previous != previous or entry.number != number:
            raise GateError(
                f"{path}: line {number}: it does not follow the line before; lines were removed,"
                " reordered or inserted: restore the log"
            )
        previous = entry.hash
        yield entry


def _head(entry: Entry) -> str:
    return f"{entry.number} {entry.hash}\n"
