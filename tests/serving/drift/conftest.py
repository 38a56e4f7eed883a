"""Shared fixtures of the sidecar's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving.drift.engine_parts import (
    Parts,
)


@pytest.fixture
def parts() -> Iterator[Parts]:
    made = Parts()
    yield made
    made.engine.close()
