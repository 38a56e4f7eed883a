"""Commands to the supervisor, on a unix socket in the state directory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aiohttp import web

from serving.errors import SeatrialError
from serving.local.pods import plan
from serving.local.settings import PlayerSettings
from serving.local.supervisor import Supervisor

logger = logging.getLogger("seatrial.player")


class Control:
    """POST /apply (answers one JSON line a step), GET /status, POST /disown and POST /down."""

    def __init__(self, supervisor: Supervisor, end: Callable[[], None]) -> None:
        self._supervisor, self._end = supervisor, end
        self.asked = False
        """True from the first apply on."""
        self._apply: asyncio.Task[None] | None = None

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/apply", self._on_apply)
        app.router.add_get("/status", self._on_status)
        app.router.add_post("/disown", self._on_disown)
        app.router.add_post("/down", self._on_down)
        return app

    async def cancel(self) -> None:
        """Gives up an apply in progress."""
        if self._apply is not None:
            self._apply.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._apply

    async def _on_apply(self, request: web.Request) -> web.StreamResponse:
        self.asked = True
        order = await request.json()
        lines: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._apply = asyncio.create_task(self._run(order, lines))
        answer = web.StreamResponse(headers={"content-type": "application/jsonlines"})
        await answer.prepare(request)
        while (line := await lines.get()) is not None:
            # A client that has gone away changes nothing about what is being applied.
            with contextlib.suppress(ConnectionError):
                await answer.write(json.dumps(line).encode() + b"\n")
        return answer

    async def _run(
        self, order: dict[str, Any], lines: asyncio.Queue[dict[str, Any] | None]
    ) -> None:
        settings = order["settings"]
        sticky = order.get("sticky", self._supervisor.sticky)
        try:
            status = await self._supervisor.apply(
                replace(plan(order["documents"]), sticky=sticky),
                None if settings is None else PlayerSettings.model_validate(settings),
                order["manifest"],
                order["wait_seconds"],
                lambda text: lines.put_nowait({"progress": text}),
            )
            lines.put_nowait({"status": status.to_json()})
        except SeatrialError as error:
            lines.put_nowait({"error": type(error).__name__, "message": str(error)})
            if not self._supervisor.serving:
                self._end()
        except Exception as error:
            logger.exception("apply failed")
            lines.put_nowait({"error": "PlayerError", "message": f"the player failed: {error!r}"})
            raise
        finally:
            lines.put_nowait(None)

    async def _on_status(self, request: web.Request) -> web.Response:
        try:
            line = {"status": self._supervisor.status().to_json()}
        except SeatrialError as error:
            line = {"error": type(error).__name__, "message": str(error)}
        return web.json_response(line)

    async def _on_disown(self, request: web.Request) -> web.Response:
        self._supervisor.disown()
        return web.json_response({})

    async def _on_down(self, request: web.Request) -> web.Response:
        self._end()
        return web.json_response({})
