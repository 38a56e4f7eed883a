"""A deploy folder with real tiny bundles, as the demo makes one."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil
import yaml

from serving.bundle import Bundle
from serving.local.network import free_ports
from serving.local.settings import SETTINGS_FILE
from serving.rollout import Arm, Canary, RolloutState, write_rollout
from tests.support.tiny import tiny_bundle

MANIFEST = Path(__file__).with_name("manifest.yaml")
BIAS = {"v1": 0.0, "v2": 0.7, "v3": -0.9}


class Deploy:
    """manifest.yaml, rollout.yaml, player.yaml and bundles/ in one folder."""

    def __init__(self, path: Path, manifest: Path = MANIFEST) -> None:
        self.path = path
        self.port = next(free_ports(()))
        path.mkdir(parents=True)
        shutil.copy(manifest, path / "manifest.yaml")
        settings = {"gateway_port": self.port, "storage": {"pvc://bundles/": "bundles"}}
        (path / SETTINGS_FILE).write_text(yaml.safe_dump(settings))

    @property
    def gateway(self) -> str:
        return f"127.0.0.1:{self.port}"

    def bundle(self, name: str, made: Bundle | None = None) -> Bundle:
        made = made or tiny_bundle(self.path / "made", BIAS[name])
        shutil.copytree(made.path, self.path / "bundles" / name)
        return made

    def rollout(self, stable: str, canaries: dict[str, int] | None = None) -> Path:
        """Writes rollout.yaml: stable's name and the canaries' weights. Returns the folder."""
        named = canaries or {}
        state = RolloutState(
            service="tiny",
            namespace="seatrial",
            stable=_arm(stable, 1 + len(named)),
            canaries=tuple(Canary(_arm(name, 1), weight) for name, weight in named.items()),
        )
        write_rollout(self.path, state)
        return self.path


def _arm(name: str, replicas: int) -> Arm:
    return Arm(name, f"pvc://bundles/{name}", replicas)


def bound_addresses(pid: int) -> set[str]:
    """Local addresses of all TCP and UDP sockets of a process, connections included.

    gRPC binds 127.0.0.1 on an IPv6 socket, where it reads ::ffff:127.0.0.1.
    """
    found = psutil.net_connections("inet")
    return {c.laddr.ip.removeprefix("::ffff:") for c in found if c.pid == pid and c.laddr}


def tree(pid: int) -> list[psutil.Process]:
    """The process and all that descend from it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]
