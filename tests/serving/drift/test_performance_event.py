"""Labels that come back to a sidecar whose model has gone bad: the event, at its sink."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.serving.drift.stream import (
    ARM,
    Sidecar,
    Sink,
    columns,
    introduction,
    reference_bytes,
    rows_event,
    wait_until,
)

FLAGGED = 0.5
ROWS = 200


@pytest.fixture
def sink() -> Iterator[Sink]:
    taker = Sink()
    yield taker
    taker.close()


def test_labels_of_a_model_that_has_gone_bad_are_told_to_the_sink(
    sink: Sink, tmp_path: Path
) -> None:
    sidecar = Sidecar(Path(sys.executable), tmp_path / "log", "--sink", sink.url)
    try:
        reference = reference_bytes({**columns(3000, seed=1), "score": scores(3000, seed=1)})
        body = introduction(
            config={"watch": {}},
            metrics=metrics(),
            reference=base64.b64encode(reference).decode(),
        )
        assert sidecar.request("PUT", "/bundle", body) == (204, b"")
        for number in range(5):
            score = send(sidecar, number)
            label(sidecar, number, chance=score)
        wait_until(lambda: labelled(sidecar) == 5 * ROWS, "labels of a good model")
        assert sink.of("performance.degraded") == []
        assert sidecar.status()["labels"]["degraded"] is False
        for number in range(5, 10):
            score = send(sidecar, number)
            label(sidecar, number, chance=np.where(score >= FLAGGED, score / 4, score))
        wait_until(lambda: bool(sink.of("performance.degraded")), "the event")
        wait_until(lambda: labelled(sidecar) == 10 * ROWS, "all labels")
        (told,) = sink.of("performance.degraded")
        assert (told["arm"], told["severity"]) == (ARM, "critical")
        assert told["aspect"] in {"precision", "calibration"}
        assert told["evidence"]["total"] >= told["evidence"]["threshold"]
        assert told["measured"]["precision"] < told["baseline"]["precision"] - 0.1
        assert sink.of("drift.opened") == []
        assert sidecar.status()["labels"]["degraded"] is True
        assert sidecar.stop() == 0
    finally:
        if sidecar.process.poll() is None:
            sidecar.kill()


def scores(count: int, seed: int) -> NDArray[np.float32]:
    """Each the probability of a positive, as long as the model is good."""
    odds = np.random.default_rng([seed, 7]).normal(-1.0, 2.0, count)
    return np.asarray(1 / (1 + np.exp(-odds)), np.float32)


def metrics() -> dict[str, Any]:
    """What the bundle measured on its test rows."""
    score = scores(20_000, seed=2)
    positive = np.random.default_rng(3).random(len(score)) < score
    flagged = score >= FLAGGED
    cells = [[int(((positive == p) & (flagged == f)).sum()) for f in (0, 1)] for p in (0, 1)]
    groups = np.array_split(np.argsort(score), 10)
    curve = [[float(score[g].mean()), float(positive[g].mean()), len(g)] for g in groups]
    return {
        "rows": {"test": len(score)},
        "confusion": {"review": cells},
        "curves": {"calibration": curve},
        "metrics": {"average_precision": 0.7},
    }


def send(sidecar: Sidecar, number: int) -> NDArray[np.float32]:
    score = scores(ROWS, seed=100 + number)
    event = rows_event({**columns(ROWS, seed=100 + number), "score": score}, f"e{number}")
    decisions = np.where(score >= FLAGGED, "decline", "approve")
    event["data"]["outputs"]["decision"] = decisions.tolist()
    assert sidecar.request("POST", "/events", event) == (202, b"")
    return score


def label(sidecar: Sidecar, number: int, chance: NDArray[Any]) -> None:
    positive = np.random.default_rng(200 + number).random(ROWS) < chance
    given = [{"id": f"e{number}-{row}", "outcome": bool(p)} for row, p in enumerate(positive)]
    assert sidecar.request("POST", "/labels", json.dumps(given).encode()) == (202, b"")


def labelled(sidecar: Sidecar) -> int:
    return int(sidecar.status()["labels"]["labelled"])
