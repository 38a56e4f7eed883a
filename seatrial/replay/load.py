"""Open-loop replay: row k leaves at k / rate seconds, whatever became of the rows before it."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seatrial.replay.answers import encode
from seatrial.replay.wires import Answer, Client, Wire
from serving.errors import FileError, UsageError

FLUSH_SECONDS = 0.25
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class LoadSettings:
    """What to send. Raises UsageError when it makes no sense."""

    rate: float
    """Requests a second over both wires."""
    connections: int = 16
    """Most requests in flight at once."""
    grpc_share: float = 0.4
    from_row: int = 0
    seconds: float | None = None
    """None: until told to stop."""

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 100_000:
            raise UsageError(f"--rate {self.rate:g}: give requests a second above 0")
        if self.connections < 1:
            raise UsageError(f"--connections {self.connections}: give at least 1")
        if not 0 <= self.grpc_share <= 1:
            raise UsageError(f"--grpc-share {self.grpc_share:g}: give a share from 0 to 1")
        if self.from_row < 0:
            raise UsageError(f"--from-row {self.from_row}: give a row from 0")
        if self.seconds is not None and self.seconds <= 0:
            raise UsageError(f"--seconds {self.seconds:g}: give seconds above 0")

    def wire(self, k: int) -> Wire:
        """The wire of the k-th request: the share, spread evenly."""
        return "grpc" if int((k + 1) * self.grpc_share) > int(k * self.grpc_share) else "http"


@dataclass(frozen=True)
class LoadResult:
    """How close the replay came to what it was asked for."""

    answers: int
    seconds: float
    rate: float
    asked_rate: float
    late_ms: float
    """The longest that a request left after its time."""
    cpu_ms: float
    """CPU time of this process per answer."""


class AnswerFile:
    """Appends answers; a reader of the file sees them within half a second."""

    def __init__(self, path: Path) -> None:
        """Starts the file anew. Raises FileError."""
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise FileError(f"{path}: cannot write the answers: {error.strerror}") from None
        self._lines: list[bytes] = []
        self.count = 0

    def add(self, answer: Answer) -> None:
        self._lines.append(encode(answer))
        self.count += 1

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        self._file.write(b"".join(lines))
        self._file.flush()

    def close(self) -> None:
        self.flush()
        os.fsync(self._file.fileno())
        self._file.close()


async def replay(
    clients: Mapping[Wire, Client], settings: LoadSettings, out: AnswerFile, stop: asyncio.Event
) -> LoadResult:
    """Sends until the seconds are over or `stop` is set; what is in flight is still answered."""
    numbers = itertools.count()
    start, cpu = time.perf_counter(), time.process_time()
    late = 0.0

    async def sender() -> None:
        # Each sender takes the next number and waits for its time: N senders, N in flight at most.
        nonlocal late
        for k in numbers:
            due = start + k / settings.rate
            if settings.seconds is not None and k / settings.rate >= settings.seconds:
                return
            while (wait := due - time.perf_counter()) > 0 and not stop.is_set():
                await asyncio.sleep(min(wait, _LOOK_SECONDS))
            if stop.is_set():
                return
            late = max(late, time.perf_counter() - due)
            out.add(await clients[settings.wire(k)].send(settings.from_row + k))

    async def flusher() -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            out.flush()

    flushing = asyncio.create_task(flusher())
    try:
        async with asyncio.TaskGroup() as senders:
            for _ in range(settings.connections):
                senders.create_task(sender())
    finally:
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
    seconds = time.perf_counter() - start
    return LoadResult(
        answers=out.count,
        seconds=round(seconds, 3),
        rate=round(out.count / seconds, 1),
        asked_rate=settings.rate,
        late_ms=round(late * 1000, 1),
        cpu_ms=round((time.process_time() - cpu) * 1000 / max(1, out.count), 3),
    )


def as_json(result: LoadResult) -> dict[str, Any]:
    return {name: getattr(result, name) for name in result.__dataclass_fields__}
