"""Bundles in an object store, against moto's real HTTP server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from components import storage
from components.storage import fetch, push
from serving.bundle import Bundle
from serving.errors import BundleError, FileError, StageError, UsageError
from tests.support.tiny import tiny_bundle


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch, request: Any) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    name = f"b{abs(hash(request.node.name))}"
    store = fs.S3FileSystem(
        endpoint_override=endpoint.removeprefix("http://"),
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
    )
    store.create_dir(name)
    return f"s3://{name}/models"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "bundles")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the objects in the order in which they were written."""
    names: list[str] = []
    write = storage._write

    def noted(store: Any, key: str, data: bytes) -> None:
        write(store, key, data)
        names.append(key.rpartition("/")[2])

    monkeypatch.setattr(storage, "_write", noted)
    return names


def test_what_was_pushed_is_fetched_whole_with_its_attestation(
    bucket: str, bundle: Bundle, tmp_path: Path
) -> None:
    beside = bundle.path.with_name(f"{bundle.path.name}.attestation.json")
    uri = push(bundle, bucket, beside)
    assert uri == f"{bucket}/{bundle.path.name}"
    found = fetch(uri, tmp_path / "copy")
    assert (found.digest, found.path.name) == (bundle.digest, bundle.path.name)
    assert (tmp_path / "copy" / beside.name).read_bytes() == beside.read_bytes()


def test_the_index_is_sent_last_and_a_second_push_sends_nothing(
    bucket: str, bundle: Bundle, sent: list[str]
) -> None:
    push(bundle, bucket)
    assert sent[-1] == "bundle.json"
    assert sorted(sent[:-1]) == sorted(name.rpartition("/")[2] for name in bundle.files)
    sent.clear()
    push(bundle, bucket)
    assert sent == []


def test_an_upload_that_broke_off_is_no_bundle_and_the_next_one_completes_it(
    bucket: str, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = storage._write

    def broken(store: Any, key: str, data: bytes) -> None:
        if key.endswith("model.onnx"):
            raise OSError("the connection is gone")
        write(store, key, data)

    with monkeypatch.context() as patched:
        patched.setattr(storage, "_write", broken)
        with pytest.raises(StageError, match="cannot write the bundle: the connection is gone"):
            push(bundle, bucket)
    uri = f"{bucket}/{bundle.path.name}"
    with pytest.raises(FileError, match="bundle.json is missing"):
        fetch(uri, tmp_path / "copy")
    assert fetch(push(bundle, bucket), tmp_path / "copy").digest == bundle.digest


def test_an_object_that_was_altered_is_found_by_its_digest(
    bucket: str, bundle: Bundle, tmp_path: Path
) -> None:
    uri = push(bundle, bucket)
    storage._write(storage._store(), f"{uri.removeprefix('s3://')}/card.md", b"# other")
    with pytest.raises(BundleError, match="card.md: sha256 is"):
        fetch(uri, tmp_path / "copy")


def test_another_bundle_in_the_same_place_is_not_overwritten(
    bucket: str, bundle: Bundle, tmp_path: Path
) -> None:
    push(bundle, bucket)
    other = tiny_bundle(tmp_path / "other", bias=1.0)
    moved = tmp_path / "moved" / bundle.path.name
    shutil.copytree(other.path, moved)
    with pytest.raises(BundleError, match="another bundle lies there"):
        push(Bundle(moved, other.digest, other.contract, other.files), bucket)


def test_a_store_that_is_away_and_a_scheme_that_is_none_are_named(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:9")
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL '127.0.0.1:9' is no URL"):
        push(bundle, "s3://bucket/models")
    with pytest.raises(UsageError, match="'gs' is no store"):
        fetch("gs://bucket/models", Path())
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    with pytest.raises(UsageError, match="names no bucket"):
        push(bundle, "s3://")


def test_a_bucket_that_does_not_exist_is_named(bucket: str, bundle: Bundle) -> None:
    with pytest.raises(StageError, match="s3://nobody/models: cannot write the bundle"):
        push(bundle, "s3://nobody/models")
