"""rollout.yaml on disk: read into a RolloutState, written back with the smallest diff."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from serving.errors import ManifestError
from serving.rollout.dialects import from_patch, to_patch, without_defaults
from serving.rollout.documents import (
    Document,
    dump_document,
    parse_documents,
    read_text,
)
from serving.rollout.state import RolloutState
from serving.whole import write_text

ROLLOUT_FILE = "rollout.yaml"


def read_rollout(path: Path) -> RolloutState:
    """The state in a rollout.yaml (or in the folder that has one). Raises ManifestError."""
    file = rollout_file(path)
    return from_patch(read_patch(file), file)


def rollout_file(path: Path) -> Path:
    return path / ROLLOUT_FILE if path.is_dir() else path


def read_patch(file: Path) -> Document:
    """The one document of a rollout.yaml. Raises ManifestError."""
    return _single(read_text(file), file)


def write_rollout(path: Path, state: RolloutState) -> bool:
    """Writes the state; says whether the file changed.

    Atomic. An existing file keeps its own layout and every comment while the edit changes values
    only (a weight, a promotion); when a canary is added or removed, the comment lines at its top
    are kept and the rest is written anew. Raises ManifestError when the existing file is not YAML.
    """
    file = rollout_file(path)
    text = file.read_text("utf-8") if file.exists() else ""
    changed = render_rollout(state, text, file)
    if changed == text:
        return False
    write_text(file, changed)
    return True


def render_rollout(state: RolloutState, text: str = "", file: Path = Path(ROLLOUT_FILE)) -> str:
    """The text of the state's rollout.yaml as an edit of `text`."""
    wanted = to_patch(state)
    if _header(text) == text:
        return text + dump_document(wanted)
    found = _single(text, file)
    for layout in (wanted, without_defaults(wanted)):
        if found == layout:
            return text
        edited = _with_values(text, found, layout)
        if edited is not None and parse_documents(edited, file) == (layout,):
            return edited
    return _header(text) + dump_document(wanted)


def _single(text: str, file: Path) -> Document:
    found = parse_documents(text, file)
    if len(found) != 1:
        raise ManifestError(
            f"{file}: {len(found)} documents; a rollout is one patch of one InferenceService"
        )
    return found[0]


def _header(text: str) -> str:
    """The comment and blank lines, and a document mark, before the first key."""
    kept = []
    for line in text.splitlines(keepends=True):
        if line.strip() and not line.startswith(("#", "---")):
            break
        kept.append(line)
    return "".join(kept)


def _with_values(text: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """`text` with the scalars that differ replaced in place; None where the shapes differ."""
    changes = dict(_differences(found, wanted, ()))
    if any(not isinstance(value, str | int) for value in changes.values()):
        return None
    nodes = dict(_scalars(yaml.compose(text, Loader=yaml.SafeLoader), ()))
    spans = []
    for path, value in changes.items():
        node = nodes.get(path)
        if node is None:
            return None
        spans.append((node.start_mark.index, node.end_mark.index, _scalar(value)))
    for start, end, value in sorted(spans, reverse=True):
        text = text[:start] + value + text[end:]
    return text


def _differences(
    found: Any, wanted: Any, path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(found, dict) and isinstance(wanted, dict) and found.keys() == wanted.keys():
        for key, value in found.items():
            yield from _differences(value, wanted[key], (*path, key))
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for i, value in enumerate(found):
            yield from _differences(value, wanted[i], (*path, i))
    elif found != wanted:
        scalar = isinstance(found, str | int) and isinstance(wanted, str | int)
        yield path, wanted if scalar else None


def _scalars(
    node: yaml.Node | None, path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], yaml.ScalarNode]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _scalars(value, (*path, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield from _scalars(value, (*path, i))
    elif isinstance(node, yaml.ScalarNode):
        yield path, node


def _scalar(value: str | int) -> str:
    # Written as an entry of a flow list, so that plain text that YAML would misread is quoted.
    text = yaml.safe_dump([value], default_flow_style=True, width=4096).strip()
    return text[1:-1]
