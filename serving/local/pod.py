"""A running pod: its processes and whether they are ready."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from serving.local.identity import Identity
from serving.local.launch import Launch, Storage
from serving.local.network import LOOPBACK
from serving.local.pods import MODEL_CONTAINER, Arm, Probe
from serving.local.process import Keeper
from serving.local.state import last_line, log_file

# Kubelet waits a whole period for its first probe; nobody wants to wait for that at a desk.
STARTING_PERIOD_S = 0.15
HOPELESS_ENDS = 2


@dataclass
class _Member:
    launch: Launch
    keeper: Keeper
    ready: bool = False
    probing: asyncio.Task[None] | None = None
    seen: Identity | None = field(default=None)
    """The process whose readiness `ready` speaks of."""


class Pod:
    """The processes of one arm, from one template."""

    def __init__(
        self,
        arm: Arm,
        storage: Storage,
        launches: tuple[Launch, ...],
        *,
        serial: int,
        folder: Path,
        http: aiohttp.ClientSession,
        changed: Callable[[], None],
    ) -> None:
        self.arm, self.storage, self.serial = arm, storage, serial
        self.was_ready = False
        """True once it has been ready: only then is there a cluster for it in the gateway."""
        self._http, self._tell = http, changed
        self._members = tuple(
            _Member(
                launch,
                Keeper(
                    launch.argv,
                    env=launch.env,
                    folder=folder / "pods" / arm.name,
                    log=log_file(folder, f"{arm.name}/{launch.name}"),
                    changed=self._changed,
                ),
            )
            for launch in launches
        )

    @property
    def key(self) -> str:
        """Name of its cluster in the gateway: no two pods share one, whatever their names."""
        return f"{self.arm.name}-{self.serial}"

    @property
    def ready(self) -> bool:
        return all(member.ready for member in self._members)

    @property
    def hopeless(self) -> bool:
        """It has never been ready and keeps crashing; it may still recover."""
        crashed = any(m.keeper.ends >= HOPELESS_ENDS for m in self._members)
        return crashed and not self.was_ready

    @property
    def why(self) -> str:
        """Empty if ready, else what the first container that is not ready said last."""
        for member in self._members:
            if not member.ready:
                name, keeper = member.launch.name, member.keeper
                state = "is starting"
                if keeper.ends:
                    state = f"ended with exit code {keeper.last_exit} ({keeper.ends} times)"
                said = last_line(keeper.log)
                return f"{name} {state}" + (f"; last log line: {said}" if said else "")
        return ""

    @property
    def identities(self) -> dict[str, Identity]:
        found = {m.launch.name: m.keeper.identity for m in self._members}
        return {name: identity for name, identity in found.items() if identity is not None}

    @property
    def restarts(self) -> dict[str, int]:
        return {m.launch.name: m.keeper.restarts for m in self._members}

    @property
    def ports(self) -> dict[str, dict[int, int]]:
        return {m.launch.name: dict(m.launch.ports) for m in self._members}

    @property
    def all_ports(self) -> set[int]:
        return {host for member in self._members for host in member.launch.ports.values()}

    def port(self, wire: str) -> int | None:
        """The model's port on 127.0.0.1 for "http" or "grpc"."""
        number = self.arm.port("grpc" if wire == "grpc" else "http")
        return None if number is None else self.ports[MODEL_CONTAINER][number]

    def start(self) -> None:
        for member in self._members:
            member.keeper.start()

    async def stop(self, grace_seconds: float) -> None:
        for member in self._members:
            if member.probing is not None:
                member.probing.cancel()
        await asyncio.gather(*(m.keeper.stop(grace_seconds) for m in self._members))

    def _changed(self) -> None:
        for member in self._members:
            if member.keeper.identity != member.seen:
                member.seen = member.keeper.identity
                member.ready = False
                if member.probing is not None:
                    member.probing.cancel()
                    member.probing = None
                if member.seen is not None:
                    member.probing = asyncio.create_task(self._probe(member))
        self._tell()

    async def _probe(self, member: _Member) -> None:
        probe = member.launch.probe
        failures = 0
        while True:
            good = probe is None or await _answers(probe, self._http)
            failures = 0 if good else failures + 1
            ready = good or (member.ready and failures < (probe.failures if probe else 1))
            if ready != member.ready:
                member.ready = ready
                self.was_ready = self.was_ready or self.ready
                self._tell()
            if probe is None:
                return
            await asyncio.sleep(probe.period if ready else STARTING_PERIOD_S)


async def _answers(probe: Probe, http: aiohttp.ClientSession) -> bool:
    with contextlib.suppress(OSError, aiohttp.ClientError, asyncio.TimeoutError):
        if probe.path is None:
            _, writer = await asyncio.wait_for(
                asyncio.open_connection(LOOPBACK, probe.port), probe.timeout
            )
            writer.close()
            return True
        url = f"http://{LOOPBACK}:{probe.port}{probe.path}"
        limit = aiohttp.ClientTimeout(total=probe.timeout)
        async with http.get(url, timeout=limit, allow_redirects=False) as answer:
            return 200 <= answer.status < 400
    return False
