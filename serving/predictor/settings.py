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
from serving.policy import DECISIONS
from serving.predictor.hardware import PROVIDERS

ENV_PREFIX = "SEATRIAL_"
NO_FALLBACK = "error"
_LEAST = {
    "max_batch_rows": 1,
    "max_queue": 1,
    "cache_entries": 0,
    "workers": 1,
    "threads": 0,
    "audit_max_bytes": 1024,
    "audit_files": 1,
}


@dataclass(frozen=True)
class Settings:
    """A flag wins over its environment variable, which wins over the default."""

    model_name: str = field(default="model", metadata={"help": "name in the endpoints' paths"})
    model_dir: Path = field(default=Path("/mnt/models"), metadata={"help": "bundle folder"})
    http_port: int = field(default=8080, metadata={"help": "port of V1 and V2 HTTP and /metrics"})
    grpc_port: int = field(default=8081, metadata={"help": "port of V2 gRPC"})
    tee_url: str = field(
        default="http://localhost:9095",
        metadata={"help": "drift sidecar that gets a copy of the rows; empty: none"},
    )
    predict_timeout_seconds: float = field(
        default=5.0, metadata={"help": "time budget of one request's model run"}
    )
    fallback_decision: str = field(
        default="",
        metadata={
            "help": "approve, review or decline: decides, after the contract's rules, while the"
            " model fails; error: such requests fail; empty: as the contract's decision.fallback"
            " says, else error"
        },
    )
    max_batch_rows: int = field(
        default=1024,
        metadata={"help": "rows of waiting requests that one run of the model may share; 1: none"},
    )
    max_queue: int = field(
        default=256, metadata={"help": "requests that may wait for the model; more are refused"}
    )
    cache_entries: int = field(
        default=0, metadata={"help": "requests whose scores are kept for repetitions; 0: none"}
    )
    workers: int = field(
        default=1, metadata={"help": "processes that share the ports; /metrics adds them up"}
    )
    threads: int = field(
        default=0,
        metadata={"help": "ONNX Runtime's threads; 0: what the CPU limit leaves each worker"},
    )
    providers: str = field(
        default="cuda,cpu",
        metadata={"help": "ONNX Runtime's providers in order, of tensorrt, cuda and cpu"},
    )
    audit_log: str = field(
        default="", metadata={"help": "file that gets one JSON line per prediction; empty: none"}
    )
    audit_fields: str = field(
        default="",
        metadata={"help": "features written to the audit log; empty: only the input's sha256"},
    )
    audit_max_bytes: int = field(
        default=64 * 2**20, metadata={"help": "size from which the audit log is rotated"}
    )
    audit_files: int = field(
        default=8, metadata={"help": "rotated audit logs that are kept; older ones are deleted"}
    )
    audit_days: float = field(
        default=0.0,
        metadata={"help": "days a line of the audit log is kept; 0: while there is room"},
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
        if not math.isfinite(self.audit_days) or self.audit_days < 0:
            raise _bad("audit_days", self.audit_days, "give days, or 0 for no limit")
        self._check_running()
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            raise _bad("host", self.host, "give an IP address, such as 127.0.0.1") from None
        if self.tee_url:
            self._check_tee()

    def _check_running(self) -> None:
        for name in self.provider_order:
            if name not in PROVIDERS:
                raise _bad("providers", self.providers, f"give some of {', '.join(PROVIDERS)}")
        if self.fallback_decision not in ("", NO_FALLBACK, *DECISIONS):
            raise _bad(
                "fallback_decision",
                self.fallback_decision,
                f"give {', '.join(DECISIONS)}, {NO_FALLBACK}, or nothing for the contract's",
            )
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise _bad(name, getattr(self, name), f"give at least {least}")

    @property
    def provider_order(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.providers.split(","))

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
