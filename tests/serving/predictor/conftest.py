"""One predictor for all who need an ordinary one, so that its start is paid once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.bundle import Bundle
from tests.serving.predictor.servers import Served, serve
from tests.support.tiny import tiny_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="session")
def served(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    log: Path = tmp_path_factory.mktemp("predictor") / "log"
    with serve(bundle.path, log, env={"SEATRIAL_ARM": "isvc.tiny-v1-predictor"}) as server:
        yield server


@pytest.fixture(scope="session")
def triton_http() -> Any:
    """tritonclient's HTTP module, which needs gevent."""
    import tritonclient.http  # noqa: PLC0415 - gevent takes its time, and one test wants it

    return tritonclient.http
