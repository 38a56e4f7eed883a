"""Every setting of the standing gate, declared once: flag, environment variable and help."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from serving.errors import UsageError
from serving.rollout.run.parts import GateSettings

PREFIX = "SEATRIAL_GATE_"
_CHOICES = {"actuator": ("git", "kubernetes"), "source": ("predictors", "prometheus")}


def _flag(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Settings:
    """A flag wins over its environment variable, which wins over the default."""

    actuator: str = _flag("git", "who makes a move: a commit (git) or the gate itself (kubernetes)")
    folder: Path = field(
        default=Path("."),
        metadata={"help": "folder of rollout.yaml; in the repository where there is one"},
    )
    repository: str = _flag("", "URL of the Git repository to commit to (actuator git)")
    branch: str = _flag("main", "its branch")
    clone: Path = field(
        default=Path("/var/lib/seatrial/repository"), metadata={"help": "where it is cloned to"}
    )
    plan: Path = field(
        default=Path("/etc/seatrial/plan.yaml"),
        metadata={"help": "plan for a folder without plan.yaml"},
    )
    runs: Path = field(
        default=Path("/var/lib/seatrial/runs"),
        metadata={"help": "where records and audit logs of runs are kept"},
    )
    source: str = _flag("predictors", "who counts: the predictors' /metrics, or prometheus")
    prometheus_url: str = _flag("", "its URL")
    every_seconds: float = _flag(30.0, "pause between two looks for a canary")
    port: int = _flag(8080, "port of /metrics")

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
    parser = _Parser(prog="python -m serving.rollout.standing", description=__doc__)
    values: dict[str, Any] = {}
    for setting in fields(Settings):
        kind = type(setting.default)
        kind = Path if issubclass(kind, Path) else kind
        variable = PREFIX + setting.name.upper()
        # A ConfigMap's empty value is no value.
        if environment.get(variable):
            values[setting.name] = _convert(variable, environment[variable], kind)
        parser.add_argument(
            f"--{setting.name}",
            type=kind,
            default=argparse.SUPPRESS,
            help=f"{setting.metadata['help']} (env {variable}; default: {setting.default})",
        )
    values.update(vars(parser.parse_args(arguments)))
    return Settings(**values)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; --help lists the flags")


def _convert(variable: str, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"{variable}={text!r} is not a number") from None
