"""Bundles in an object store: `s3://bucket/prefix` beside paths.

The endpoint is AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL; credentials and region come from AWS's
usual places (environment, profile, the pod's web identity).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from components.files import write_bytes
from serving.bundle import Bundle, open_bundle
from serving.errors import BundleError, FileError, StageError, UsageError

INDEX = "bundle.json"
SCHEME = "s3://"
CONNECT_S, REQUEST_S = 10.0, 60.0


def is_remote(where: str) -> bool:
    """Whether it is an object store's URI. Raises UsageError for a scheme that is no store."""
    scheme, separator, _ = where.partition("://")
    if separator and scheme != "s3":
        raise UsageError(f"'{where}': '{scheme}' is no store to write to; give a path or s3://…")
    return bool(separator)


def push(bundle: Bundle, uri: str, attestation: Path | None = None) -> str:
    """Uploads the bundle to `uri`/<its folder's name> and returns that URI.

    bundle.json is uploaded last, so what has one is whole; where it lies already with this digest
    and every file in its size, nothing is sent. Raises StageError when the store refuses, and
    BundleError when another bundle lies there.
    """
    store = _store()
    root = f"{_key(uri)}/{bundle.path.name}"
    with _explained(f"{uri}: cannot write the bundle"):
        index = _read(store, f"{root}/{INDEX}")
        if index is not None and json.loads(index)["digest"] != bundle.digest:
            raise BundleError(f"{SCHEME}{root}: another bundle lies there; give another place")
        sizes = _sizes(store, root)
        for name in sorted(bundle.files):
            data = bundle.read(name)
            if index is None or sizes.get(name) != len(data):
                _write(store, f"{root}/{name}", data)
        if attestation is not None:
            _write(store, f"{root}.attestation.json", attestation.read_bytes())
        if index is None:
            _write(store, f"{root}/{INDEX}", (bundle.path / INDEX).read_bytes())
    return f"{SCHEME}{root}"


def fetch(uri: str, into: Path) -> Bundle:
    """The bundle at `uri`, a path or s3://…, verified; what is remote is copied below `into`.

    Raises FileError when there is none, StageError when the store refuses, BundleError when it is
    not whole.
    """
    if not is_remote(uri):
        return open_bundle(Path(uri))
    store, root = _store(), _key(uri)
    folder = into / root.rpartition("/")[2]
    with _explained(f"{uri}: cannot read the bundle"):
        index = _read(store, f"{root}/{INDEX}")
        if index is None:
            raise FileError(f"{uri}: no bundle here ({INDEX} is missing); give a bundle's URI")
        for name in json.loads(index)["files"]:
            target = folder / name
            if not target.resolve().is_relative_to(folder.resolve()):
                raise BundleError(f"{uri}: '{name}' leads out of the bundle; rebuild it")
            data = _read(store, f"{root}/{name}")
            if data is not None:
                write_bytes(target, data)
        attestation = _read(store, f"{root}.attestation.json")
        if attestation is not None:
            write_bytes(into / f"{folder.name}.attestation.json", attestation)
    write_bytes(folder / INDEX, index)
    return open_bundle(folder)


def _store() -> Any:
    # Imported late: a step that works on paths needs none of it, and it takes a while.
    from pyarrow import fs  # noqa: PLC0415

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options: dict[str, Any] = {}
    if endpoint:
        parts = urlsplit(endpoint)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise UsageError(f"AWS_ENDPOINT_URL '{endpoint}' is no URL; give http(s)://HOST:PORT")
        options = {"scheme": parts.scheme, "endpoint_override": parts.netloc}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region or endpoint:
        options["region"] = region or "us-east-1"
    return fs.S3FileSystem(connect_timeout=CONNECT_S, request_timeout=REQUEST_S, **options)


def _key(uri: str) -> str:
    key = uri.removeprefix(SCHEME).strip("/")
    if not key:
        raise UsageError(f"'{uri}' names no bucket; give s3://BUCKET/PREFIX")
    return key


def _read(store: Any, key: str) -> bytes | None:
    try:
        with store.open_input_stream(key) as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        return None


def _write(store: Any, key: str, data: bytes) -> None:
    with store.open_output_stream(key) as stream:
        stream.write(data)


def _sizes(store: Any, root: str) -> dict[str, int]:
    from pyarrow import fs  # noqa: PLC0415

    found = store.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
    return {one.path.removeprefix(root + "/"): one.size for one in found if one.is_file}


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StageError(f"{what}: {' '.join(str(error).split())[:300]}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{what}: its {INDEX} is not an index ({error}); remove it") from None
