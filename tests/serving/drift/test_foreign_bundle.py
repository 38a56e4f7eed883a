"""The bundle of a foreign predictor, fetched from a real HTTP server."""

from __future__ import annotations

import functools
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from serving.bundle import Bundle
from serving.drift.foreign import introduce_foreign
from serving.drift.settings import Settings
from serving.errors import BundleError
from tests.serving.drift.stream import Sidecar, wait_until
from tests.serving.drift.test_kserve_logger import V2_PACKED
from tests.serving.drift.test_service import PYTHON, WATCH
from tests.support.tiny import tiny_bundle


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the server serves."""
    made = tmp_path / "served"
    made.mkdir()
    return made


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    config = json.dumps(WATCH).encode()
    return tiny_bundle(tmp_path / "bundles", 0.0, None, **{"drift/config.json": config})


def pack(bundle: Path, archive: Path) -> None:
    with tarfile.open(archive, "w:gz") as made:
        made.add(bundle, bundle.name)


def test_a_sidecar_watches_the_bundle_that_it_has_fetched(
    bundle: Bundle, folder: Path, url: str, tmp_path: Path
) -> None:
    pack(bundle.path, folder / "tiny.tar.gz")
    flags = ("--bundle", f"{url}/tiny.tar.gz", "--logger_mode", "request")
    sidecar = Sidecar(PYTHON, tmp_path / "log", *flags)
    try:
        assert sidecar.status()["bundle"]["digest"] == bundle.digest
        headers = {
            "content-type": "application/octet-stream",
            "ce-specversion": "1.0",
            "ce-type": "org.kubeflow.serving.inference.request",
            "ce-source": "http://localhost:9081/",
            "ce-id": "a",
        }
        assert sidecar.request("POST", "/", V2_PACKED, headers) == (202, b"")
        wait_until(lambda: sidecar.status()["watch"]["rows"] == 1, "the row")
        assert sidecar.stop() == 0
    finally:
        if sidecar.process.poll() is None:
            sidecar.kill()


def test_an_archive_that_is_not_there_or_no_bundle_is_refused_by_its_address(
    bundle: Bundle, folder: Path, url: str
) -> None:
    (folder / "text.tar.gz").write_bytes(b"no archive")
    with tarfile.open(folder / "empty.tar.gz", "w:gz"):
        pass
    for name, sentence in (
        ("absent.tar.gz", "cannot be fetched: HTTP Error 404"),
        ("text.tar.gz", "not a .tar or .tar.gz of a bundle"),
        ("empty.tar.gz", "there is no bundle.json in it"),
    ):
        with pytest.raises(BundleError, match=f"{url}/{name}: {sentence}"):
            introduce_foreign(Settings(bundle=f"{url}/{name}"))


def test_an_archive_that_was_altered_on_its_way_is_refused(
    bundle: Bundle, folder: Path, url: str
) -> None:
    (bundle.path / "contract.json").write_bytes(b"{}")
    pack(bundle.path, folder / "altered.tar.gz")
    with pytest.raises(BundleError, match=r"contract\.json: sha256 is"):
        introduce_foreign(Settings(bundle=f"{url}/altered.tar.gz"))
