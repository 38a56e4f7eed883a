"""The supervisor's heart: makes what runs equal to what the manifest asks for, without a gap."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import aiohttp

from serving.errors import PlayerError
from serving.local.envoy import Backend
from serving.local.gateway import Gateway
from serving.local.identity import Identity
from serving.local.launch import Place, Storage, check, launches
from serving.local.network import check_port_free, free_ports
from serving.local.pod import Pod
from serving.local.pods import Arm, Play
from serving.local.settings import SETTINGS_FILE, PlayerSettings
from serving.local.sink import Sink
from serving.local.split import shares
from serving.local.state import State, write_state
from serving.local.status import ArmStatus, Status
from serving.rollout.rules import check_change

Progress = Callable[[str], None]


class Supervisor:
    """Owns the pods and the gateway of one state directory."""

    def __init__(
        self, folder: Path, me: Identity, owner: Identity | None, sink_url: str, sink: Sink
    ) -> None:
        self._folder, self._me, self._owner = folder, me, owner
        self._sink_url, self._sink = sink_url, sink
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True), cookie_jar=aiohttp.DummyCookieJar()
        )
        self._play: Play | None = None
        self._settings = PlayerSettings()
        self._manifest = ""
        self._gateway: Gateway | None = None
        self._wanted: dict[str, Pod] = {}
        """By arm: the pod of the current template."""
        self._serving: dict[str, Pod] = {}
        """By arm: the pod that has been ready last; it differs while a new generation starts."""
        self._pods: list[Pod] = []
        self._ending: list[Pod] = []
        self._serial = 0
        self._changed = asyncio.Event()
        self._applying = asyncio.Lock()
        self._steering = asyncio.Lock()
        self._write_state()

    @property
    def serving(self) -> bool:
        """True once the first apply has brought the gateway up."""
        return self._gateway is not None and self._gateway.started

    @property
    def sticky(self) -> str | None:
        """The header by which users are kept on one arm now."""
        return None if self._play is None else self._play.sticky

    async def apply(
        self,
        play: Play,
        settings: PlayerSettings | None,
        manifest: str,
        wait_seconds: float,
        progress: Progress,
    ) -> Status:
        """Returns when all is as asked, or when the wait is over and the status says what is not.

        Without settings those of the last apply stay. Raises PlayerError, BundleError, or
        ManifestError for a change that a cluster refuses, with nothing changed; PlayerError when
        the very first stable does not get ready.
        """
        async with self._applying:
            settings = settings or self._settings
            if self._gateway and self._gateway.port != settings.gateway_port:
                raise PlayerError(
                    f"the gateway is on port {self._gateway.port} and {SETTINGS_FILE} asks for"
                    f" {settings.gateway_port}; run 'seatrial down' first"
                )
            if self._play is not None and self._play.service == play.service:
                check_change(self._play.document, play.document, Path(manifest))
            stores = {a.name: check(a, settings) for a in play.arms if a.replicas > 0}
            if self._gateway is None:
                gateway = Gateway(self._folder, settings.gateway_port, self._on_change)
                check_port_free(gateway.port)
                self._gateway = gateway
            self._start_missing(play, stores, settings, progress)
            self._play, self._settings, self._manifest = play, settings, manifest
            self._on_change()
            await self._wait_ready(time.monotonic() + wait_seconds, progress)
            stable = self._wanted[play.stable.name]
            if not self._gateway.started and not stable.was_ready:
                raise PlayerError(
                    f"the stable predictor '{play.stable.name}' did not become ready: {stable.why}"
                    f" (whole log: {self._folder / 'logs' / play.stable.name})"
                )
            await self._steer()
            return self.status()

    async def watch(self) -> None:
        """Follows readiness between applies: an arm that fails leaves the route, and returns."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._write_state()
            if self._gateway is not None and self._gateway.started:
                with contextlib.suppress(PlayerError):  # Envoy is between two starts: comes again
                    await self._steer()

    async def stop(self) -> None:
        """Ends every child; returns when all are gone."""
        grace = self._settings.grace_seconds
        ends = [pod.stop(grace) for pod in (*self._pods, *self._ending)]
        if self._gateway is not None:
            ends.append(self._gateway.stop(grace))
        await asyncio.gather(*ends, self._http.close())

    def disown(self) -> None:
        """From now on nobody's death ends this run."""
        self._owner = None
        self._write_state()

    def status(self) -> Status:
        """Raises PlayerError before the first apply."""
        if self._play is None or self._gateway is None:
            raise PlayerError("the player is still starting; ask again in a moment")
        weights = {b.key: weight for b, weight in self._gateway.weights.items()}
        arms = [
            _arm_status(arm, self._wanted.get(arm.name), self._serving.get(arm.name), weights)
            for arm in self._play.arms
        ]
        known = {arm.name for arm in arms}
        arms += [
            _arm_status(replace(pod.arm, role="leaving", weight=0), pod, pod, weights)
            for name, pod in self._serving.items()
            if name not in known
        ]
        identity = self._gateway.identity
        return Status(
            gateway=f"127.0.0.1:{self._gateway.port}",
            service=self._play.service,
            namespace=self._play.namespace,
            manifest=self._manifest,
            supervisor_pid=self._me.pid,
            gateway_pid=identity.pid if identity else None,
            arms=tuple(arms),
            events=self._sink.count,
            not_played=self._play.not_played,
            sticky=self._play.sticky,
        )

    def _start_missing(
        self, play: Play, stores: dict[str, Storage], settings: PlayerSettings, progress: Progress
    ) -> None:
        taken = {port for pod in self._pods for port in pod.all_ports}
        fresh = free_ports(taken)
        wanted: dict[str, Pod] = {}
        for arm in play.arms:
            if arm.name not in stores:
                continue
            storage, now = stores[arm.name], self._wanted.get(arm.name)
            if now and (now.arm.template, now.storage) == (arm.template, storage):
                wanted[arm.name] = now
                continue
            ports = {port.number: next(fresh) for c in arm.containers for port in c.ports}
            self._serial += 1
            wanted[arm.name] = Pod(
                arm,
                storage,
                launches(arm, Place(settings, storage, play.namespace, ports, self._sink_url)),
                serial=self._serial,
                folder=self._folder,
                http=self._http,
                changed=self._on_change,
            )
        # Nothing can be refused any more: only now does anything change.
        for arm in play.arms:
            pod = wanted.get(arm.name)
            if pod is not None and pod not in self._pods:
                progress(f"starting '{arm.name}' from {arm.storage_uri}")
                self._pods.append(pod)
                pod.start()
            elif pod is not None:
                pod.arm = arm
        self._wanted = wanted

    async def _wait_ready(self, deadline: float, progress: Progress) -> None:
        waiting = [pod for pod in self._wanted.values() if not pod.was_ready]
        began = time.monotonic()
        while waiting and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            for pod in list(waiting):
                if pod.was_ready:
                    progress(f"'{pod.arm.name}' is ready after {time.monotonic() - began:.1f} s")
                    waiting.remove(pod)
                elif pod.hopeless:
                    progress(f"'{pod.arm.name}' is not getting ready: {pod.why}")
                    waiting.remove(pod)

    async def _steer(self) -> None:
        """Add clusters, move the route, drain, remove, end: each step after Envoy's word."""
        async with self._steering:
            play, gateway = self._play, self._gateway
            if play is None or gateway is None:
                return
            self._serving.update({n: p for n, p in self._wanted.items() if p.was_ready})
            backends = {pod: _backend(pod) for pod in self._pods if pod.was_ready}
            ready = {name: pod.ready for name, pod in self._serving.items()}
            given = shares(play.arms, ready)
            if given is not None:
                await self._route(gateway, play, given, backends)
            keep = {*self._wanted.values(), *self._serving.values()}
            leaving = [pod for pod in self._pods if pod not in keep]
            if gateway.started:
                known = [backends[pod] for pod in leaving if pod in backends]
                await asyncio.gather(*(gateway.drained(b, play.timeout) for b in known))
                await gateway.set_backends([b for pod, b in backends.items() if pod in keep])
            self._pods = [pod for pod in self._pods if pod not in leaving]
            self._ending = leaving
            await asyncio.gather(*(pod.stop(self._settings.grace_seconds) for pod in leaving))
            self._ending = []
        self._write_state()

    async def _route(
        self, gateway: Gateway, play: Play, given: dict[str, int], backends: dict[Pod, Backend]
    ) -> None:
        weights = {backends[self._serving[n]]: share for n, share in given.items() if share}
        if not gateway.started:
            await gateway.start(list(backends.values()), weights, play.timeout, play.sticky)
        await gateway.set_backends(list(backends.values()))
        await gateway.set_weights(weights, play.timeout, play.sticky)
        names = self._wanted.keys()
        self._serving = {name: pod for name, pod in self._serving.items() if name in names}

    def _on_change(self) -> None:
        self._changed.set()

    def _write_state(self) -> None:
        children = {
            f"{pod.arm.name}/{container}#{pod.serial}": identity
            for pod in (*self._pods, *self._ending)
            for container, identity in pod.identities.items()
        }
        if self._gateway is not None and self._gateway.identity is not None:
            children["gateway"] = self._gateway.identity
        write_state(self._folder, State(self._me, self._owner, children))


def _backend(pod: Pod) -> Backend:
    return Backend(pod.key, pod.arm.name, pod.port("http"), pod.port("grpc"))


def _arm_status(
    arm: Arm, wanted: Pod | None, serving: Pod | None, weights: dict[str, int]
) -> ArmStatus:
    shown = wanted or serving
    why = "minReplicas 0: no process" if wanted is None else wanted.why
    if wanted is not None and serving is not None and serving is not wanted:
        why = f"{why}; its last ready generation answers meanwhile"
    return ArmStatus(
        name=arm.name,
        role=arm.role,
        wanted_weight=arm.weight,
        weight=weights.get(serving.key, 0) if serving else 0,
        ready=wanted is not None and wanted.ready,
        why=why,
        storage_uri=arm.storage_uri,
        digest=shown.storage.digest if shown else None,
        template=arm.template,
        pids={n: i.pid for n, i in shown.identities.items()} if shown else {},
        restarts=shown.restarts if shown else {},
        ports=shown.ports if shown else {},
    )
