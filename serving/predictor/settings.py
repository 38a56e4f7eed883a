"""The predictor's settings: each declared once, a flag and an environment variable alike."""

from __future__ import annotations

import argparse
import ipaddress
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from serving.errors import UsageError

ENV_PREFIX = "SEATRIAL_"


@dataclass(frozen=True)
class Settings:
    """A flag wins over its environment variable, which wins over the default."""

    model_name: str = field(default="model", metadata={"help": "name in the endpoints' paths"})
    model_dir: Path = field(default=Path("/mnt/models"), metadata={"help": "bundle folder"})
    http_port: int = field(default=8080, metadata={"help": "port of V1 and V2 HTTP and /metrics"})
    grpc_port: int = field(default=8081, metadata={"help": "port of V2 gRPC"})
    tee_url: str = field(
        default="http://localhost:9090",
        metadata={"help": "drift sidecar that gets a copy of the rows; empty: none"},
    )
    predict_timeout_seconds: float = field(
        default=5.0, metadata={"help": "time budget of one request's model run"}
    )
    host: str = field(default="0.0.0.0", metadata={"help": "address to bind"})  # noqa: S104
    arm: str = field(
        default="default", metadata={"help": "which arm of a rollout this is: the pod's label app"}
    )

    def check(self) -> None:
        """Raises UsageError naming the flag, the value and what to give instead."""
        if not self.model_name or "/" in self.model_name:
            raise _bad("model_name", self.model_name, "give a name without '/'")
        for name in ("http_port", "grpc_port"):
            port = getattr(self, name)
            if not 0 < port < 65536:
                raise _bad(name, port, "give a port from 1 to 65535")
        if self.http_port == self.grpc_port:
            raise _bad("grpc_port", self.grpc_port, "--http_port is the same, give another port")
        if not math.isfinite(self.predict_timeout_seconds) or self.predict_timeout_seconds <= 0:
            raise _bad(
                "predict_timeout_seconds", self.predict_timeout_seconds, "give seconds above 0"
            )
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            raise _bad("host", self.host, "give an IP address, such as 127.0.0.1") from None
        if self.tee_url:
            self._check_tee()

    def _check_tee(self) -> None:
        try:
            url = urlsplit(self.tee_url)
            plain = url.scheme == "http" and bool(url.hostname) and url.port != 0
        except ValueError:
            plain = False
        if not plain:
            raise _bad("tee_url", self.tee_url, "give an http:// address, or nothing for no tee")


def read_settings(argv: Sequence[str], env: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """The checked settings and the arguments that are not ours (KServe's own flags).

    Raises UsageError.
    """
    given, rest = _parser().parse_known_args(list(argv))
    values: dict[str, Any] = {}
    for setting in fields(Settings):
        text = getattr(given, setting.name)
        source = f"--{setting.name}"
        if text is None:
            source = ENV_PREFIX + setting.name.upper()
            text = env.get(source)
        if text is not None:
            values[setting.name] = _convert(setting.default, text, source)
    settings = Settings(**values)
    settings.check()
    return settings, rest


def help_text() -> str:
    return _parser().format_help()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m serving.predictor", allow_abbrev=False, add_help=False)
    for setting in fields(Settings):
        shown = f"{setting.metadata['help']} (default: {setting.default or 'empty'};"
        parser.add_argument(
            f"--{setting.name}", help=f"{shown} env: {ENV_PREFIX}{setting.name.upper()})"
        )
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UsageError(f"{message}; --help lists the flags")


def _convert(default: object, text: str, source: str) -> object:
    kind = Path if isinstance(default, Path) else type(default)
    try:
        return kind(text)  # type: ignore[call-arg]
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise UsageError(f"{source}: '{text}' is not {wanted}") from None


def _bad(name: str, value: object, advice: str) -> UsageError:
    return UsageError(f"--{name} (or {ENV_PREFIX}{name.upper()}): '{value}': {advice}")
