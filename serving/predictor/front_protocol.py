"""Uvicorn's HTTP protocol with a short way: an inference request is answered as it is parsed.

That is before there is a task, an ASGI scope or a response cycle, which together cost more than a
small model. Whatever cannot be answered at once goes through uvicorn as if nothing had been.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.predictor.cloud_events import is_cloud_event
from serving.predictor.http import MAX_BODY_BYTES, InferenceApp, Reply, Wire


class FrontProtocol(HttpToolsProtocol):
    """For a server whose application is an InferenceApp."""

    app: InferenceApp

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._routes = {path.encode(): wire for path, wire in self.app.routes.items()}
        self._wire: Wire | None = None
        """Set while the parts of a body are kept for the short way."""
        self._parts: list[bytes] = []
        self._size = 0
        self._waiting: bytes | None = None
        """The body of a request that is gathered and not answered yet."""
        self._last = False
        """The connection ends with this answer."""

    def on_message_begin(self) -> None:
        self._answer_waiting()
        # The scope is made when someone needs one.
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        wire = self._routes.get(self.url)
        if (
            wire is not None
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and not (self.expect_100_continue or self.parser.should_upgrade())
            and not (self.cycle is not None and not self.cycle.response_complete)
            and not self.flow.write_paused
            and not is_cloud_event(self.headers)
        ):
            self._wire, self._parts, self._size = wire, [], 0
        else:
            self._take_the_long_way()

    def on_body(self, body: bytes) -> None:
        if self._wire is None:
            super().on_body(body)
            return
        self._parts.append(body)
        self._size += len(body)
        if self._size > MAX_BODY_BYTES:
            self._wire = None
            self._take_the_long_way()
            super().on_body(b"".join(self._parts))
            self._parts = []

    def on_message_complete(self) -> None:
        wire, self._wire = self._wire, None
        if wire is None:
            super().on_message_complete()
            return
        parts, self._parts = self._parts, []
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._last = self.app.draining or not self.parser.should_keep_alive()
        if self.app.gatherer is None or len(self.connections) == 1:
            self.answer(self.app.reply_at_once(wire, self.headers, body), body)
        else:
            self._waiting = body
            self.app.gatherer.ask(self, wire, self.headers, body)

    def has_left(self) -> bool:
        return self.transport.is_closing()

    def answer(self, reply: Reply | None, body: bytes | None = None) -> None:
        """Sends it; without one the request goes the long way."""
        body, self._waiting = self._waiting if body is None else body, None
        if reply is not None:
            if not self.transport.is_closing():
                self._write(reply)
        elif body is not None:
            self._take_the_long_way()
            super().on_body(body)
            super().on_message_complete()

    def shutdown(self) -> None:
        self._answer_waiting()
        super().shutdown()

    def _answer_waiting(self) -> None:
        """Now, so that the answers of one connection keep their order."""
        if self._waiting is not None and self.app.gatherer is not None:
            self.app.gatherer.answer_all()

    def _take_the_long_way(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def _write(self, reply: Reply) -> None:
        content = [STATUS_LINE[reply.status]]
        for name, value in (*self.server_state.default_headers, *reply.headers):
            content += (name, b": ", value, b"\r\n")
        if self._last:
            content.append(b"connection: close\r\n")
        content.append(b"content-length: %d\r\n\r\n" % len(reply.body))
        content.append(reply.body)
        self.transport.write(b"".join(content))
        if self._last:
            self.transport.close()
        self.on_response_complete()
