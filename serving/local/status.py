"""What the player says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from serving.local.pods import Role


@dataclass(frozen=True)
class ArmStatus:
    name: str
    role: Role
    wanted_weight: int
    """Percent of traffic the manifest asks for."""
    weight: int
    """Percent the gateway gives now, acknowledged by Envoy."""
    ready: bool
    why: str
    """Empty when ready, else what is waited for or the last line of the log."""
    storage_uri: str
    digest: str | None
    """Of the bundle at storage_uri; None if what lies there is no bundle."""
    template: str
    """Fingerprint of what the processes were started with."""
    pids: Mapping[str, int]
    """By container; one that is between two starts is left out."""
    restarts: Mapping[str, int]
    ports: Mapping[str, Mapping[int, int]]
    """By container: declared port -> port on 127.0.0.1."""


@dataclass(frozen=True)
class Status:
    gateway: str
    """host:port of HTTP and gRPC."""
    service: str
    """Name of the InferenceService, and of the model on every wire."""
    namespace: str
    manifest: str
    supervisor_pid: int
    gateway_pid: int | None
    arms: tuple[ArmStatus, ...]
    events: int
    """CloudEvents the sidecars have sent to this player."""
    not_played: tuple[str, ...]
    sticky: str | None = None
    """Header whose hash keeps a user on one arm; None where every request is drawn anew."""

    def arm(self, name: str) -> ArmStatus:
        """The arm of that name; KeyError if there is none."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise KeyError(name)

    @property
    def weights(self) -> dict[str, int]:
        return {arm.name: arm.weight for arm in self.arms}

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)


def parse_status(text: str) -> Status:
    """What to_json wrote."""
    data: Any = json.loads(text)
    arms = [
        ArmStatus(
            **{
                **arm,
                "ports": {
                    name: {int(port): host for port, host in ports.items()}
                    for name, ports in arm["ports"].items()
                },
            }
        )
        for arm in data["arms"]
    ]
    return Status(**{**data, "arms": tuple(arms), "not_played": tuple(data["not_played"])})
