"""Every setting of the receiver, declared once: flag, environment variable, default and help."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving import flags
from serving.errors import UsageError
from serving.flags import flag, only_env
from serving.retrain.command import CommandLauncher, CommandSettings
from serving.retrain.kfp import KfpLauncher, KfpSettings
from serving.retrain.launcher import Launcher
from serving.retrain.rules import SEVERITIES, Rules

PREFIX = "SEATRIAL_RETRAIN_"
TYPES = ",".join(sorted(Rules().types))


@dataclass(frozen=True)
class Settings:
    """A flag wins over its environment variable, that one over the default."""

    port: int = flag(9095, "port that takes the events")
    journal: str = flag("", "folder that keeps what was received, on a volume that outlives this")
    types: str = flag(TYPES, "event types that start a run, with commas between them")
    severity: str = flag("warning", f"least severity that starts a run: {', '.join(SEVERITIES)}")
    cooldown_seconds: float = flag(21_600.0, "from the end of a model's run to its next")
    hold_seconds: float = flag(86_400.0, "that an event may wait for its run")
    patience_seconds: float = flag(86_400.0, "after which a run that never ends blocks no other")
    poll_seconds: float = flag(10.0, "between looks at a run that is active")
    launcher: str = flag("kfp", "what starts a run: kfp, or command for one on this machine")
    kfp_url: str = flag("", "of the KFP API server, such as http://ml-pipeline.kubeflow:8888")
    kfp_pipeline: str = flag("", "name of the pipeline that retrains")
    kfp_namespace: str = flag("", "of the profile, in KFP's multi-user mode")
    kfp_experiment: str = flag("Default", "that the runs belong to")
    kfp_token_file: str = flag("", "of a ServiceAccount token for audience pipelines.kubeflow.org")
    parameters: str = flag(
        '{"event_id": "{event_id}"}', "of a run, as a JSON object; texts may have {places}"
    )
    command: str = flag("[]", "for launcher command: a JSON list; texts may have {places}")
    host: str = only_env("0.0.0.0", "SEATRIAL_HOST")  # noqa: S104

    def __post_init__(self) -> None:
        """Raises UsageError naming the setting and its value."""
        if not 0 < self.port < 65536:
            raise UsageError(f"port {self.port} is not a port; give 1 to 65535")
        if not self.journal:
            raise UsageError("journal is empty; give a folder on a volume that outlives this")
        if self.severity not in SEVERITIES:
            raise UsageError(f"severity '{self.severity}' is none of {', '.join(SEVERITIES)}")
        if self.launcher not in ("kfp", "command"):
            raise UsageError(f"launcher '{self.launcher}' is none of kfp, command")
        for name in ("cooldown_seconds", "hold_seconds", "patience_seconds", "poll_seconds"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise UsageError(f"{name} {value} is no length of time; give 0 or more")
        if not self.poll_seconds:
            raise UsageError("poll_seconds 0 never rests; give more than 0")

    def rules(self) -> Rules:
        return Rules(
            types=frozenset(kind.strip() for kind in self.types.split(",") if kind.strip()),
            severity=next(s for s in SEVERITIES if s == self.severity),
            cooldown=self.cooldown_seconds,
            hold=self.hold_seconds,
            patience=self.patience_seconds,
        )

    def build_launcher(self) -> Launcher:
        """Raises UsageError."""
        if self.launcher == "command":
            found = _json("command", self.command, list)
            if not all(isinstance(argument, str) for argument in found):
                raise UsageError(f"command {self.command}: each item must be text")
            return CommandLauncher(CommandSettings(tuple(found), Path(self.journal) / "runs"))
        return KfpLauncher(
            KfpSettings(
                url=self.kfp_url,
                pipeline=self.kfp_pipeline,
                parameters=_json("parameters", self.parameters, dict),
                namespace=self.kfp_namespace,
                experiment=self.kfp_experiment,
                token_file=Path(self.kfp_token_file) if self.kfp_token_file else None,
            )
        )


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Settings from the command line and the environment. Raises UsageError."""
    return flags.read_settings(
        Settings,
        arguments,
        environment,
        program="python -m serving.retrain",
        description="Receives drift events and starts retraining runs.",
        prefix=PREFIX,
    )


def _json(setting: str, text: str, kind: type) -> Any:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, kind):
        raise UsageError(
            f"{setting} {text!r} is no JSON {'object' if kind is dict else 'list'}; correct it"
        )
    return found
