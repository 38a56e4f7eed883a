"""The registry, in MLflow's SQLite and behind its real server, and its fake."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from components.register.core import register, run
from components.register.mlflow_registry import MlflowRegistry
from components.register.registry import (
    CHAMPION,
    Entry,
    MemoryRegistry,
    ModelRegistry,
    version_of,
    with_alias,
)
from serving.errors import StageError, UsageError
from tests.support.tiny import tiny_bundle


def entry(letter: str = "a", parent: str = "") -> Entry:
    return Entry("fraud", letter * 64, f"pvc://b/{letter}", run="r1", data="d" * 64, parent=parent)


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry's file with its tables; MLflow takes seconds to make them."""
    file = tmp_path_factory.mktemp("registry") / "registry.db"
    MlflowRegistry(f"sqlite:///{file}")
    return file


@pytest.fixture
def file(empty: Path, tmp_path: Path) -> str:
    shutil.copyfile(empty, tmp_path / "registry.db")
    return f"sqlite:///{tmp_path / 'registry.db'}"


@pytest.fixture
def server(file: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """MLflow's own server on a free port."""
    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", file)
    monkeypatch.setenv("_MLFLOW_SERVER_REGISTRY_STORE", file)
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "unused")
    from mlflow.server import app, handlers  # noqa: PLC0415

    monkeypatch.setattr(handlers, "_model_registry_store", None)
    monkeypatch.setattr(handlers, "_tracking_store", None)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["memory", "sqlite", "server"])
def registry(request: pytest.FixtureRequest) -> ModelRegistry:
    if request.param == "memory":
        return MemoryRegistry()
    return MlflowRegistry(
        request.getfixturevalue("file" if request.param == "sqlite" else "server")
    )


def test_a_digest_has_one_version_and_keeps_its_lineage(registry: ModelRegistry) -> None:
    first, second = registry.register(entry()), registry.register(entry("b", parent="a" * 64))
    assert (first.number, second.number) == (1, 2)
    assert registry.register(entry()).number == 1
    newest, oldest = registry.versions("fraud")
    assert newest.entry == entry("b", parent="a" * 64)
    assert oldest.entry == entry()
    assert registry.models() == ["fraud"]
    assert registry.versions("unknown") == []


def test_an_alias_points_to_one_version_at_a_time(registry: ModelRegistry) -> None:
    for letter in "ab":
        registry.register(entry(letter))
    for number in (1, 2):
        registry.set_alias("fraud", CHAMPION, number)
    champion = with_alias(registry, "fraud", CHAMPION)
    assert champion is not None
    assert champion.number == 2
    assert [v.aliases for v in registry.versions("fraud")] == [(CHAMPION,), ()]
    with pytest.raises(UsageError, match="no version 7"):
        registry.set_alias("fraud", CHAMPION, 7)


def test_a_version_is_found_by_number_alias_or_digest(registry: ModelRegistry) -> None:
    registry.register(entry("a"))
    registry.register(entry("b"))
    registry.set_alias("fraud", CHAMPION, 1)
    found = [version_of(registry, "fraud", which).number for which in ("2", CHAMPION, "bbbbbb")]
    assert found == [2, 1, 2]
    with pytest.raises(UsageError, match=r"no version 'cccccc'; there are: 2 \(bbbbbbbbbbbb\)"):
        version_of(registry, "fraud", "cccccc")


def test_many_who_register_at_once_get_the_same_version(registry: ModelRegistry) -> None:
    with ThreadPoolExecutor(6) as pool:
        found = [v.number for v in pool.map(lambda _: registry.register(entry()), range(6))]
    assert len(set(found)) == 1
    assert [v.number for v in registry.versions("fraud")] == found[:1]


def _register(uri: str, letter: str) -> None:
    MlflowRegistry(uri).register(entry(letter))


def test_processes_may_make_the_file_and_register_in_it_at_once(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'new' / 'registry.db'}"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_register, args=(uri, letter)) for letter in "aabb"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    assert {v.entry.digest[0] for v in MlflowRegistry(uri).versions("fraud")} == {"a", "b"}
    assert len(MlflowRegistry(uri).versions("fraud")) == 2


def test_the_step_registers_what_the_bundle_says_of_itself(tmp_path: Path, file: str) -> None:
    lineage = {"data": "1" * 64, "code": "2" * 64, "parent": "3" * 64}
    changed: dict[str, Any] = {"lineage.json": json.dumps(lineage).encode()}
    bundle = tiny_bundle(tmp_path, **changed)
    said = run(bundle=str(bundle.path), registry=file)
    assert said == {
        "model": "tiny",
        "version": 1,
        "digest": bundle.digest,
        "uri": f"pvc://seatrial-bundles/tiny/{bundle.path.name}",
    }
    (version,) = MlflowRegistry(file).versions("tiny")
    assert version.aliases == ("challenger",)
    found = version.entry
    assert (found.run, found.data, found.code, found.parent) == (
        "test",
        lineage["data"],
        lineage["code"],
        lineage["parent"],
    )


def test_registering_again_moves_only_the_alias(tmp_path: Path) -> None:
    registry, bundle = MemoryRegistry(), tiny_bundle(tmp_path)
    for alias in ("challenger", "champion"):
        register(registry, str(bundle.path), alias=alias)
    assert [v.aliases for v in registry.versions("tiny")] == [("challenger", "champion")]


def test_a_registry_that_is_none_or_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="registry 'redis://x' is neither"):
        MlflowRegistry("redis://x")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StageError, match=r"registry http://127.0.0.1:9: cannot read it"):
        MlflowRegistry("http://127.0.0.1:9").versions("fraud")
