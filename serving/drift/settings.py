"""Every setting of the sidecar, declared once: flag, environment variable, default and help."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn
from urllib.parse import urlsplit

from serving.errors import UsageError

PREFIX = "SEATRIAL_DRIFT_"


def _flag(default: Any, text: str, env: str | None = None) -> Any:
    return field(default=default, metadata={"help": text, "env": env})


@dataclass(frozen=True)
class Settings:
    """A flag wins over its environment variable, that one over the default."""

    port: int = _flag(9090, "port of the HTTP receiver")
    sink: str = _flag("", "URL that takes the events; empty: events go to the log only", "K_SINK")
    window_rows: int = _flag(0, "rows in a test window; 0: what the bundle's drift config says")
    ring_rows: int = _flag(100_000, "rows kept while detection is behind; older ones are dropped")
    host: str = field(default="0.0.0.0", metadata={"only_env": "SEATRIAL_HOST"})  # noqa: S104

    def __post_init__(self) -> None:
        """Raises UsageError naming the setting and its value."""
        if not 0 < self.port < 65536:
            raise UsageError(f"port {self.port} is not a port; give 1 to 65535")
        if self.window_rows < 0:
            raise UsageError(f"window_rows {self.window_rows} is negative; give 0 or more rows")
        if self.ring_rows < 1:
            raise UsageError(f"ring_rows {self.ring_rows} keeps nothing; give 1 or more rows")
        if self.sink:
            check_url(self.sink)


def check_url(url: str) -> None:
    """Raises UsageError unless it is an http or https URL with a host."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"sink '{url}' is not an http or https URL; give http://HOST[:PORT]/PATH")


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Settings from the command line and the environment. Raises UsageError."""
    parser = _Parser(
        prog="python -m serving.drift",
        description="Watches the rows beside one predictor and reports drift as CloudEvents.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    values: dict[str, Any] = {}
    for setting in fields(Settings):
        kind = int if isinstance(setting.default, int) else str
        variables = [setting.metadata.get("only_env", PREFIX + setting.name.upper())]
        if setting.metadata.get("env"):
            variables.append(setting.metadata["env"])
        for variable in reversed(variables):
            if environment.get(variable):
                values[setting.name] = _convert(variable, environment[variable], kind)
        if "only_env" not in setting.metadata:
            parser.add_argument(
                f"--{setting.name}",
                type=kind,
                default=argparse.SUPPRESS,
                help=f"{setting.metadata['help']} (env {' or '.join(variables)})",
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
        raise UsageError(f"{variable}={text!r} is not a whole number") from None
