"""The local player as an actuator: the deploy folder's rollout.yaml, then `apply`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from serving.errors import GateError, PlayerError
from serving.local.client import LocalPlayer
from serving.local.pods import MODEL_CONTAINER
from serving.local.status import Status
from serving.rollout.actuators.actuator import Health
from serving.rollout.overlay import read_rollout, write_rollout
from serving.rollout.state import RolloutState


class LocalActuator:
    """An Actuator for the player of one state directory."""

    def __init__(self, folder: Path, player: LocalPlayer, *, wait_seconds: float = 0.0) -> None:
        """`wait_seconds` is how long a write waits for pods that it has started."""
        self._folder, self._player, self._wait = folder, player, wait_seconds

    def read(self) -> RolloutState:
        return read_rollout(self._folder)

    def write(self, state: RolloutState, message: str, trailers: Mapping[str, str]) -> str:
        """The name of the write is the sha256 of rollout.yaml."""
        write_rollout(self._folder, state)
        self.apply()
        text = (self._folder / "rollout.yaml").read_text("utf-8")
        return hashlib.sha256(text.encode()).hexdigest()

    def apply(self) -> None:
        """Makes what runs equal to the folder."""
        self._status()
        try:
            self._player.apply(self._folder, wait_seconds=self._wait)
        except PlayerError as error:
            raise GateError(f"the player did not take the rollout: {error}") from None

    def settled(self, state: RolloutState) -> bool:
        status = self._status()
        weights = {arm.name: arm.weight for arm in status.arms if arm.role != "leaving"}
        return weights == state.weights

    def health(self, stable: str, canary: str) -> Health:
        arms = {arm.name: arm for arm in self._status().arms}
        found = arms.get(canary)
        restarts = {}
        if found is not None:
            pod = f"{canary}:{found.template[:12]}"
            restarts[pod] = found.restarts.get(MODEL_CONTAINER, 0)
        return Health(
            stable_ready=stable in arms and arms[stable].ready,
            canary_ready=found is not None and found.ready,
            restarts=restarts,
            weight=None if found is None else found.weight,
        )

    def _status(self) -> Status:
        """Of the player, if it plays this folder's service."""
        try:
            status = self._player.status()
        except PlayerError as error:
            raise GateError(f"the player cannot be asked: {error}") from None
        wanted = self.read().service
        if status.service != wanted:
            raise GateError(
                f"the player in {self._player.state_dir} plays '{status.service}' and not"
                f" '{wanted}'; name the other one's state directory"
            )
        return status
