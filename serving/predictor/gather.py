"""Requests that the event loop read in one go share one run of the model.

Nobody waits: what is gathered is what had arrived anyway while the loop was busy, and a request
that is alone is run alone, in the same turn of the loop.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from serving.errors import Overloaded
from serving.predictor.http import Headers, InferenceApp, Reply, Wire


class Asker(Protocol):
    """A connection with a request."""

    def has_left(self) -> bool: ...

    def answer(self, reply: Reply | None) -> None:
        """None: this request takes waiting after all."""


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
        replies = self._app.reply_together([each[1:] for each in present[: self._limit]])
        for (asker, _, _, _), reply in zip(present, replies, strict=False):
            asker.answer(reply)
        for asker, wire, _, _ in present[self._limit :]:
            full = Overloaded(f"{self._limit} requests came at once; send it again later")
            asker.answer(self._app.refusal(wire, full))
