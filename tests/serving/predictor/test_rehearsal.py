"""The contract's example and the golden rows are run before anything is served."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving import models
from serving.bundle import Bundle, Contract
from serving.errors import BundleError
from serving.predictor.graph import Graph, Scores
from serving.predictor.lanes import Guard, Lane
from serving.predictor.metrics import Metrics
from serving.predictor.rehearsal import rehearse
from serving.predictor.rows import Rows
from serving.predictor.session import ModelSession
from tests.support.faults import ABOVE, faulty_bundle
from tests.support.tiny import CONTRACT


class Noting(Graph):
    """A real graph that remembers what it was run on."""

    seen: list[Rows]

    def run(self, rows: Rows, lane: Lane) -> Scores:
        self.seen.append(rows)
        return super().run(rows, lane)


def session(bundle: Bundle, graph: Graph) -> ModelSession:
    return ModelSession(graph, 5.0, Metrics("tiny", bundle.digest, "test"))


def bundle_with_example(folder: Path, **example: Any) -> Bundle:
    contract = Contract.model_validate({**CONTRACT, "example": example})
    extra: dict[str, bytes] = {"contract.json": contract.canonical_json().encode()}
    return faulty_bundle(folder, "fail", **extra)


def test_the_contracts_example_is_the_first_row_it_runs(bundle: Bundle) -> None:
    graph = Noting(bundle, ["CPUExecutionProvider"], 1)
    graph.seen = []
    rehearse(session(bundle, graph))
    first = {name: column.tolist() for name, column in graph.seen[0].columns.items()}
    assert first == {name: [value] for name, value in CONTRACT["example"].items()}
    assert graph.seen[1].count == 3  # the golden rows


def test_refuses_a_model_that_fails_on_its_contracts_example(tmp_path: Path) -> None:
    bundle = bundle_with_example(tmp_path, **{**CONTRACT["example"], "visits": ABOVE + 1})
    with pytest.raises(BundleError, match="example: the model fails on it"):
        rehearse(session(bundle, Graph(bundle, ["CPUExecutionProvider"], 1)))


@pytest.mark.parametrize(
    ("example", "said"), [({"amount": 1.0}, "age"), ({**CONTRACT["example"], "amount": -1}, "-1")]
)
def test_an_example_that_is_no_row_is_left_out_with_a_warning(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    example: dict[str, Any],
    said: str,
) -> None:
    monkeypatch.setattr(logging.getLogger("seatrial"), "propagate", True)
    bundle = bundle_with_example(tmp_path, **example)
    rehearse(session(bundle, Graph(bundle, ["CPUExecutionProvider"], 1)))
    assert said in caplog.text


def test_onnx_runtimes_private_run_is_there_and_its_public_one_would_do(tmp_path: Path) -> None:
    """When this fails after an update, the hot path has lost what made small runs cheap."""
    bundle = models.bundle(tmp_path, models.SMALL)
    graph = Graph(bundle, ["CPUExecutionProvider"], 1)
    assert graph._native is not None
    assert graph._bind(1).native is not None
    lane = Guard(lambda: None).lane()
    rows = Rows(models.FEATURES, 3, matrix=models.sample(3))
    privately = graph.run(rows, lane).tolist()
    graph._native = None
    assert graph.run(rows, lane).tolist() == privately
