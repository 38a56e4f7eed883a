"""`python -m components.NAME`: a step's work without kfp, with the component's own arguments."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from serving.bundle import Contract, load_contract
from serving.errors import SeatrialError


def main(run: Callable[..., Any], argv: Sequence[str] | None = None) -> int:
    """Calls `run` with the arguments its signature names and prints what it returns as JSON.

    An error of ours becomes one line on stderr and its exit code.
    """
    parser = _parser(run)
    given = parser.parse_args(argv)
    try:
        arguments = {
            name: load_contract(value) if annotation is Contract else value
            for (name, value), annotation in zip(
                ((n, getattr(given, n)) for n in _annotations(run)),
                _annotations(run).values(),
                strict=True,
            )
        }
        result = run(**arguments)
    except SeatrialError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(result, sort_keys=True, default=str) + "\n")
    return 0


def _annotations(run: Callable[..., Any]) -> dict[str, Any]:
    return {n: t for n, t in typing.get_type_hints(run).items() if n != "return"}


def _parser(run: Callable[..., Any]) -> argparse.ArgumentParser:
    text = inspect.getdoc(run) or ""
    helps = dict(
        line.strip().split(": ", 1) for line in text.splitlines() if ": " in line and line[0] != " "
    )
    parser = argparse.ArgumentParser(
        prog=f"python -m {run.__module__.removesuffix('.core')}",
        description=text.splitlines()[0] if text else None,
    )
    for name, parameter in inspect.signature(run).parameters.items():
        annotation = _annotations(run)[name]
        if isinstance(annotation, types.UnionType):
            annotation = typing.get_args(annotation)[0]
        required = parameter.default is inspect.Parameter.empty
        parser.add_argument(
            f"--{name}",
            type=_READ.get(annotation, annotation),
            required=required,
            default=None if required else parameter.default,
            help=helps.get(name),
        )
    return parser


def _flag(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


_READ: dict[Any, Callable[[str], Any]] = {Path: Path, Contract: Path, bool: _flag}
"""How the text of an argument becomes a value, where its type alone does not say."""
