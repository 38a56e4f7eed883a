"""Finished steps of earlier local runs, found by the content of what went into them.

A step's key covers its code, its environment, its parameters (a path counts by what lies there) and
its input artifacts, so that a run which was killed goes on after its last finished step. KFP's own
cache is not asked: it knows a file by its path only.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.code import code_fingerprint
from components.files import write_json

ALWAYS = frozenset({"bundle", "register", "deploy", "promote", "batch_score"})
"""Steps that act on something beside their outputs; each is harmless to repeat."""
_PLACES = frozenset({"out", "checkpoints", "registry", "storage"})
"""Parameters that say where to write: what lies there already is no input."""
_LOCK = ".seatrial-lock"


def key_of(stage: str, python: Path, request: Mapping[str, Any]) -> str:
    """The sha256 that names a step's work. `request` is kfp's executor input."""
    inputs = request.get("inputs", {})
    stamp = python.parents[1] / _LOCK
    parts = {
        "stage": stage,
        "code": code_fingerprint(),
        "environment": stamp.read_text("utf-8") if stamp.is_file() else str(python),
        "parameters": {
            name: str(value) if name in _PLACES else _content(value)
            for name, value in inputs.get("parameterValues", {}).items()
        },
        "artifacts": {
            name: [_tree(Path(one["uri"])) for one in given["artifacts"]]
            for name, given in inputs.get("artifacts", {}).items()
        },
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def keep(store: Path, key: str, request: Mapping[str, Any]) -> None:
    """Remembers a finished step by its key."""
    root = _root(request)
    write_json(store / f"{key}.json", {"root": str(root), "content": _tree(root)})


def recall(store: Path, key: str, request: Mapping[str, Any]) -> bool:
    """Puts the outputs of an equal, finished step where this one's belong.

    False when there is none, or when its outputs are no longer what they were.
    """
    try:
        found = json.loads((store / f"{key}.json").read_text("utf-8"))
        before = Path(found["root"])
        if _tree(before) != found["content"]:
            return False
    except (OSError, ValueError, KeyError):
        return False
    root = _root(request)
    if root != before:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(before, root, copy_function=_link)
        told = root / _told(request).name
        if told.is_file():
            text = told.read_text("utf-8").replace(str(before), str(root))
            told.unlink()  # a hard link: writing into it would change the earlier run's
            told.write_text(text, "utf-8")
    return True


def _told(request: Mapping[str, Any]) -> Path:
    return Path(request["outputs"]["outputFile"])


def _root(request: Mapping[str, Any]) -> Path:
    return _told(request).parent


def _content(value: Any) -> Any:
    if isinstance(value, str) and os.path.isabs(value) and Path(value).exists():
        return _tree(Path(value))
    return value


def _tree(path: Path) -> str:
    """sha256 over the names and bytes of a file or folder. Raises FileNotFoundError."""
    digest = hashlib.sha256()
    if not path.exists():
        raise FileNotFoundError(path)
    for file in [path] if path.is_file() else sorted(_files(path)):
        with file.open("rb") as handle:
            name = "" if file == path else file.relative_to(path).as_posix()
            # kfp tells where outputs lie, and that differs from run to run.
            if name == "executor_output.json":
                continue
            sha = hashlib.file_digest(handle, "sha256").hexdigest()
        digest.update(f"{name}\0{sha}\n".encode())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.is_file())


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)
