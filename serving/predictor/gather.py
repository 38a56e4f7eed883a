"""Requests that the event loop read in one go share one run of the model.

Nobody waits: what is gathered is what had arrived anyway while the loop was busy, and a request
that is alone is run alone, in the same turn of the loop.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Protocol

from serving.errors import Overloaded
from serving.predictor.cloud_events import Headers
from serving.predictor.http import InferenceApp, Reply, Wire


class Asker(Protocol):
    """A connection with a request."""

    def has_left(self) -> bool: ...

    def answer(self, reply: Reply | None) -> None:
        """None: this request takes waiting after all."""


TURN_SECONDS = 0.25
"""What one turn may take to answer; who came in it and is later still is refused."""
_AT_ONCE = 64
"""Enough to share runs; between them the clock is looked at."""

_Asked = tuple[Asker, Wire, Headers, bytes]


class Gatherer:
    """For one event loop."""

    def __init__(self, app: InferenceApp, limit: int) -> None:
        """`limit`: requests of one turn beyond which they are refused."""
        self._app = app
        self._limit = limit
        self._asked: list[_Asked] = []

    def ask(self, asker: Asker, wire: Wire, headers: Headers, body: bytes) -> None:
        if not self._asked:
            asyncio.get_running_loop().call_soon(self.answer_all)
        self._asked.append((asker, wire, headers, body))

    def answer_all(self) -> None:
        """Answers what is gathered; those who left meanwhile cost nothing."""
        asked, self._asked = self._asked, []
        present = [each for each in asked if not each[0].has_left()]
        if len(present) < len(asked):
            self._app.dropped(len(asked) - len(present))
        end = perf_counter() + TURN_SECONDS
        done = 0
        while done < min(len(present), self._limit) and perf_counter() < end:
            some = present[done : min(done + _AT_ONCE, self._limit)]
            replies = self._app.reply_together([each[1:] for each in some])
            for (asker, _, _, _), reply in zip(some, replies, strict=True):
                asker.answer(reply)
            done += len(some)
        for asker, wire, _, _ in present[done:]:
            full = Overloaded(f"{len(present)} requests came at once; send it again later")
            asker.answer(self._app.refusal(wire, full))
