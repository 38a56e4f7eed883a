"""How a decision reaches the traffic: one rollout state is written, and later it is so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from serving.rollout.state import RolloutState


@dataclass(frozen=True)
class Health:
    """What the data plane says about the arms of a run."""

    stable_ready: bool
    canary_ready: bool
    restarts: Mapping[str, int] = field(default_factory=dict)
    """Restarts of the predictor's container, by pod of the canary."""
    weight: int | None = None
    """Percent of the traffic that the canary is given now, if known."""


class Plane(Protocol):
    """Watches the traffic."""

    def settled(self, state: RolloutState) -> bool:
        """True once the traffic is split as the state says."""
        ...

    def health(self, stable: str, canary: str) -> Health:
        """Raises GateError when nobody can say."""
        ...


class Actuator(Plane, Protocol):
    """Writes the rollout's state. The state is always the whole of it, so writing twice is safe."""

    def read(self) -> RolloutState:
        """The state that is asked for now."""
        ...

    def write(self, state: RolloutState, message: str, trailers: Mapping[str, str]) -> str:
        """Asks for the state; returns the name of the write: a commit or a resource version.

        Raises GateError, with nothing changed, when someone else owns the state.
        """
        ...
