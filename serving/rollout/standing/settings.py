"""Every setting of the standing gate, declared once: flag, environment variable and help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving import flags
from serving.errors import UsageError
from serving.flags import flag
from serving.rollout.run.parts import GateSettings

PREFIX = "SEATRIAL_GATE_"
_CHOICES = {"actuator": ("git", "kubernetes"), "source": ("predictors", "prometheus")}


@dataclass(frozen=True)
class Settings:
    """A flag wins over its environment variable, which wins over the default."""

    actuator: str = flag("git", "who makes a move: a commit (git) or the gate itself (kubernetes)")
    folder: Path = flag(Path("."), "folder of rollout.yaml; in the repository where there is one")
    repository: str = flag("", "URL of the Git repository to commit to (actuator git)")
    branch: str = flag("main", "its branch")
    clone: Path = flag(Path("/var/lib/seatrial/repository"), "where it is cloned to")
    plan: Path = flag(Path("/etc/seatrial/plan.yaml"), "plan for a folder without plan.yaml")
    runs: Path = flag(
        Path("/var/lib/seatrial/runs"), "where records and audit logs of runs are kept"
    )
    source: str = flag("predictors", "who counts: the predictors' /metrics, or prometheus")
    prometheus_url: str = flag("", "its URL")
    every_seconds: float = flag(30.0, "pause between two looks for a canary")
    port: int = flag(8080, "port of /metrics")

    def __post_init__(self) -> None:
        """Raises UsageError naming the setting and its value."""
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise UsageError(f"{name} '{value}' is unknown; give {' or '.join(choices)}")
        if not 0 < self.port < 65536:
            raise UsageError(f"port {self.port} is not a port; give 1 to 65535")
        if self.every_seconds <= 0:
            raise UsageError(f"every_seconds {self.every_seconds} is no pause; give seconds")
        if self.source == "prometheus" and not self.prometheus_url:
            raise UsageError("source prometheus: prometheus_url is missing; give its URL")

    @property
    def deploy_folder(self) -> Path:
        return self.clone / self.folder if self.actuator == "git" else self.folder

    def gate(self) -> GateSettings:
        """What a run is led with."""
        commits = self.actuator == "git"
        return GateSettings.model_validate(
            {
                "folder": self.deploy_folder,
                "actuator": self.actuator,
                "traffic": "cluster" if commits else None,
                "push": commits,
                "source": self.source,
                "prometheus_url": self.prometheus_url,
                "runs_dir": self.runs,
            }
        )


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Settings from the command line and the environment. Raises UsageError."""
    return flags.read_settings(
        Settings,
        arguments,
        environment,
        program="python -m serving.rollout.standing",
        description=__doc__,
        prefix=PREFIX,
    )
