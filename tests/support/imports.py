"""Which distributions a module of ours needs, and which an extra brings."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
OURS = ("components", "pipelines", "seatrial", "serving")


@cache
def needed(module: str) -> set[str]:
    """Top-level names of others' modules that are imported when `module` of ours is."""
    seen: set[str] = set()
    others: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = _file(name)
        if name in seen or file is None:
            continue
        seen.add(name)
        # A package's own module is run before what is in it.
        waiting += [name.rpartition(".")[0]] if "." in name else []
        for found in _imports(file):
            if found.split(".")[0] in OURS:
                waiting.append(found)
            else:
                others.add(found.split(".")[0])
    return others - set(sys.stdlib_module_names)


@cache
def brought(extras: tuple[str, ...], environment: Path) -> set[str]:
    """Top-level names of what the extras install, as the environment has it."""
    installed = _installed(environment)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [Requirement(text) for text in project["dependencies"]]
    for extra in extras:
        waiting += [Requirement(text) for text in project["optional-dependencies"][extra]]
    names: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        key = (_name(requirement.name), frozenset(requirement.extras))
        distribution = installed.get(key[0])
        if key in seen or distribution is None:
            continue
        seen.add(key)
        names |= _modules(distribution)
        for text in distribution.requires or ():
            wanted = Requirement(text)
            marker = wanted.marker
            asked = ("", *requirement.extras)
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in asked):
                waiting.append(wanted)
    return names


def _imports(file: Path) -> Iterator[str]:
    """What a module imports at once: not in functions, not for type checking."""
    waiting: list[ast.AST] = [ast.parse(file.read_text("utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


@cache
def _installed(environment: Path) -> dict[str, Distribution]:
    (site,) = environment.glob("lib/python3*/site-packages")
    return {_name(one.metadata["Name"]): one for one in distributions(path=[str(site)])}


def _modules(distribution: Distribution) -> set[str]:
    files = distribution.files or ()
    return {re.sub(r"\.(py|.*\.so)$", "", file.parts[0]) for file in files}


def _name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
