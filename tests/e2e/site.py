"""Where the served model is asked: the player on this machine, or a cluster of yours.

Both play the same manifests, and a test cannot tell which one it has.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from seatrial.deployment import arm, create_deployment
from seatrial.replay.rows import DATATYPES
from serving.bundle import Bundle, open_bundle
from serving.local import LocalPlayer
from serving.rollout import Arm, RolloutState, read_rollout, write_rollout
from tests.e2e.running import free_port
from tests.support.cluster_set import MANIFESTS, ROOT
from tests.support.tiny import tiny_bundle

WAIT_S = 60.0
CLUSTER_WAIT_S = 300.0
ARM = re.compile(r'\barm="isvc\.[^"]*?-([^"-]+)-predictor"')


@dataclass(frozen=True)
class Gateway:
    url: str
    """http://host:port of HTTP."""
    host: str
    """Host name that the route is for."""

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        """(status, text) of one request on a connection of its own."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            headers = {"host": self.host, "content-type": "application/json"}
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        finally:
            connection.close()


class Site(Protocol):
    bundle: Bundle
    gateway: Gateway
    stable: RolloutState
    """What it is in before a test and after it."""
    canary: Arm

    def write(self, state: RolloutState) -> None:
        """Returns once the route has the state's weights and every arm a ready pod."""
        ...

    def dump(self) -> str:
        """What is needed to see why a test failed."""
        ...

    def end(self) -> None: ...


def arm_of(site: Site) -> str:
    """The arm that answered one request. The predictor's own metrics name it: plain KServe adds no
    header that does."""
    status, text = site.gateway.ask("GET", "/metrics")
    found = ARM.search(text)
    assert status == 200, text
    assert found is not None, text
    return found[1]


def golden_request(bundle: Bundle) -> dict[str, Any]:
    """The bundle's golden rows as one V2 request."""
    columns = bundle.read_json("golden.json")["columns"]
    return {
        "inputs": [
            {
                "name": feature.name,
                "datatype": DATATYPES[feature.dtype],
                "shape": [len(columns[feature.name])],
                "data": columns[feature.name],
            }
            for feature in bundle.contract.features
        ]
    }


class LocalSite:
    """The rendered base, with its sidecar, played for two tiny bundles."""

    def __init__(self, folder: Path) -> None:
        self.bundle = tiny_bundle(folder / "bundles")
        self._folder = folder / "deploy"
        port = free_port()
        self.stable = create_deployment(self._folder, self.bundle, port=port)
        self.canary = arm("v2", tiny_bundle(folder / "bundles", bias=0.7))
        self.gateway = Gateway(f"http://127.0.0.1:{port}", "localhost")
        self._player = LocalPlayer(folder / "state", notify=lambda _: None)
        self._player.up(self._folder, wait_seconds=WAIT_S)

    def write(self, state: RolloutState) -> None:
        write_rollout(self._folder, state)
        status = self._player.apply(self._folder)
        assert status.weights == state.weights
        assert all(one.ready for one in status.arms), status

    def dump(self) -> str:
        logs = sorted((self._player.state_dir / "logs").glob("*"))
        tails = [f"== {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs]
        return "\n".join([str(self._player.status()), *tails])

    def end(self) -> None:
        self._player.down()


class ClusterSite:
    """The suite on the cluster of KUBECONFIG, as environments/kind/check.sh installs it.

    SEATRIAL_BUNDLE lies on its claim for v1 and for v2, and SEATRIAL_GATEWAY is the gateway's URL.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.bundle = open_bundle(Path(os.environ["SEATRIAL_BUNDLE"]))
        shutil.copytree(MANIFESTS, folder / "manifests", ignore=shutil.ignore_patterns("rendered"))
        self._overlay = folder / "manifests" / "overlays" / "cpu"
        self.stable = read_rollout(self._overlay)
        uri = self.stable.stable.storage_uri.rpartition("/")[0]
        self.canary = Arm("v2", f"{uri}/v2", self.stable.floor)
        (host, *_) = self._route()["hostnames"]
        self.gateway = Gateway(url, host)

    def write(self, state: RolloutState) -> None:
        write_rollout(self._overlay, state)
        self._kubectl("apply", "--kustomize", str(self._overlay))
        deadline = time.monotonic() + CLUSTER_WAIT_S
        while not self._is(state):
            assert time.monotonic() < deadline, f"not {state.weights}: {self._route()}"
            time.sleep(0.5)

    def _is(self, state: RolloutState) -> bool:
        """Conditions cannot be waited for after an edit; routes and Deployments can."""
        names = {self._named(one.name): weight for one, weight in self._shares(state)}
        for rule in self._route()["rules"]:
            found = {ref["name"]: ref.get("weight", 1) for ref in rule["backendRefs"]}
            # Without canaries KServe writes no weight at all.
            if found != names and not (len(names) == 1 and found.keys() == names.keys()):
                return False
        return all(self._ready(name) >= 1 for name in names)

    def _shares(self, state: RolloutState) -> list[tuple[Arm, int]]:
        return [(one, state.weights[one.name]) for one in state.arms]

    def _named(self, name: str) -> str:
        return f"{self.stable.service}-{name}-predictor"

    def _route(self) -> dict[str, Any]:
        found = self._kubectl("get", "httproute", self.stable.service, "--output=json")
        return dict(json.loads(found)["spec"])

    def _ready(self, deployment: str) -> int:
        found = json.loads(self._kubectl("get", "deployment", deployment, "--output=json"))
        return int(found["status"].get("readyReplicas", 0))

    def _kubectl(self, *arguments: str) -> str:
        done = subprocess.run(
            ["kubectl", "--namespace", self.stable.namespace, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def dump(self) -> str:
        script = ROOT / "environments" / "kind" / "dump.sh"
        done = subprocess.run(
            ["bash", str(script)], capture_output=True, text=True, timeout=300, check=False
        )
        return done.stdout + done.stderr

    def end(self) -> None:
        self.write(self.stable)


def open_site(folder: Path) -> Site:
    """A cluster only where its gateway is named: a KUBECONFIG alone is no leave to change it."""
    url = os.environ.get("SEATRIAL_GATEWAY")
    return ClusterSite(folder, url) if url else LocalSite(folder)
