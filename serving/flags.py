"""Settings of a process from one dataclass: a flag, a variable and help for each field.

The metadata of a field: `help`; `env`, a second variable that is asked after our own; `only_env`, a
variable instead of both. A flag wins over its variable, that one over the default; a variable that
is set to nothing, as a ConfigMap may have it, is no value.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import field, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from serving.errors import UsageError

Settings = TypeVar("Settings")


def flag(default: Any, text: str, env: str | None = None) -> Any:
    """A field of a settings dataclass."""
    return field(default=default, metadata={"help": text, "env": env})


def only_env(default: Any, variable: str) -> Any:
    """A field that only the environment sets."""
    return field(default=default, metadata={"only_env": variable})


def read_settings(
    settings: type[Settings],
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    program: str,
    description: str | None,
    prefix: str,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> Settings:
    """An instance of `settings`; variables are named `prefix` and the field in capitals.

    Raises UsageError naming the flag or variable and its value.
    """
    parser = _Parser(prog=program, description=description)
    values: dict[str, Any] = {}
    for setting in fields(settings):  # type: ignore[arg-type]
        kind = Path if isinstance(setting.default, Path) else type(setting.default)
        ours = setting.metadata.get("only_env", prefix + setting.name.upper())
        variables = [name for name in (ours, setting.metadata.get("env")) if name]
        given = next((name for name in variables if environment.get(name)), None)
        if given:
            values[setting.name] = _convert(given, environment[given], kind)
        if "only_env" not in setting.metadata:
            parser.add_argument(
                f"--{setting.name}",
                type=kind,
                default=argparse.SUPPRESS,
                choices=(choices or {}).get(setting.name),
                help=f"{setting.metadata['help']} (default {str(setting.default)!r};"
                f" env {' or '.join(variables)})",
            )
    values.update(vars(parser.parse_args(arguments)))
    return settings(**values)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; --help lists the flags")


def _convert(variable: str, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise UsageError(f"{variable}={text!r} is not {wanted}") from None
