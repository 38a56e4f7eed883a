"""Reading YAML files into plain documents, as strictly as the cluster's own tools do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from serving.errors import ManifestError

Document = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """Safe loader that refuses duplicate keys and leaves dates as text, as Kubernetes does."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Document:
    seen: set[Any] = set()
    for key, _ in node.value:
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        name = loader.construct_object(key)
        if not isinstance(name, str):
            raise yaml.constructor.ConstructorError(
                None, None, f"key {name!r} is not text", key.start_mark
            )
        if name in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key '{name}' is written twice", key.start_mark
            )
        seen.add(name)
    loader.flatten_mapping(node)
    return {str(key): value for key, value in loader.construct_mapping(node, deep=True).items()}


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rows if tag != "tag:yaml.org,2002:timestamp"]
    for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_text(path: Path) -> str:
    """The file's text. Raises ManifestError when it is missing, empty or not UTF-8 text."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such file; give a manifest file or its folder") from None
    except UnicodeDecodeError:
        raise ManifestError(f"{path}: not UTF-8 text; give a YAML manifest") from None
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}") from None
    if not text.strip():
        raise ManifestError(f"{path}: the file is empty; write the manifest into it")
    return text


def parse_documents(text: str, file: Path) -> tuple[Document, ...]:
    """The documents of a YAML stream, empty ones left out.

    Raises ManifestError naming the line when the text is not YAML, and when a document is no
    mapping or none is left.
    """
    try:
        found = [item for item in yaml.load_all(text, Loader=_Loader) if item is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise ManifestError(f"{file}: not YAML: {where}{error.problem}; correct it") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ManifestError(f"{file}: not YAML: {reason}; correct it") from None
    for number, item in enumerate(found, start=1):
        if not isinstance(item, dict):
            raise ManifestError(
                f"{file}: document {number} is {type(item).__name__} and not a Kubernetes object;"
                " start it with apiVersion and kind"
            )
    if not found:
        raise ManifestError(f"{file}: the file holds no YAML document; write the manifest into it")
    return tuple(found)


def without_nulls(value: Any) -> Any:
    """The value without the fields that are null: to the API server those are absent."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def read_documents(file: Path) -> tuple[Document, ...]:
    """Reads a YAML file. Raises ManifestError as `read_text` and `parse_documents` do."""
    return parse_documents(read_text(file), file)


def dump_document(document: Mapping[str, Any]) -> str:
    """Block-style YAML, lists indented under their key, keys in the order given."""
    return yaml.dump(
        dict(document), Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=4096
    )


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)
