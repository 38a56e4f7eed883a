"""A pipeline's parameters as people write them, against what its compiled IR declares."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipelines.resources import compiled
from serving.errors import FileError, UsageError

Document = Mapping[str, Any]
_KINDS = {"STRUCT": dict, "LIST": list, "BOOLEAN": bool, "NUMBER_INTEGER": int}


def read_ir(name: str) -> tuple[Document, Document]:
    """A pipeline's IR: its spec and its platforms' part. Raises UsageError."""
    known = compiled()
    if name not in known:
        raise UsageError(f"pipeline '{name}' is unknown; choose one of {', '.join(known)}")
    spec, *platform = yaml.safe_load_all(known[name].read_text("utf-8"))
    return spec, platform[0] if platform else {}


def declared(spec: Document) -> Mapping[str, Document]:
    """Name -> type, description and default of each parameter."""
    found: Mapping[str, Document] = spec["root"]["inputDefinitions"]["parameters"]
    return found


def read_parameters(spec: Document, given: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE, each of its type; KEY=@FILE is the file's text. Raises UsageError or FileError.

    What is required must be there; defaults are left to the pipeline.
    """
    known = declared(spec)
    values: dict[str, Any] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign:
            raise UsageError(f"parameter '{text}': write KEY=VALUE, or KEY=@FILE")
        if name not in known:
            raise UsageError(f"parameter '{name}' is unknown; choose one of {', '.join(known)}")
        values[name] = _typed(name, known[name]["parameterType"], _text(name, value))
    missing = [
        name
        for name, about in known.items()
        if name not in values and "defaultValue" not in about and not about.get("isOptional")
    ]
    if missing:
        raise UsageError(f"parameters are missing: {', '.join(missing)}; give --param NAME=VALUE")
    return values


def with_defaults(spec: Document, values: Document) -> dict[str, Any]:
    """Every parameter's value."""
    return {
        name: values.get(name, about.get("defaultValue")) for name, about in declared(spec).items()
    }


def _text(name: str, value: str) -> str:
    if not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"parameter '{name}': {value[1:]} cannot be read: {error}") from None


def _typed(name: str, kind: str, text: str) -> Any:
    if kind == "STRING":
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if kind == "NUMBER_DOUBLE" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    # type() and not isinstance(): JSON's true is no integer, and Python's is one.
    if type(value) is not _KINDS.get(kind):
        raise UsageError(
            f"parameter '{name}': {text[:80]!r} is no {kind.lower().replace('_', ' ')};"
            " write it as JSON"
        )
    return value
