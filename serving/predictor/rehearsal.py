"""What a bundle must do before it is served: its example, then its golden rows.

The runs also warm the graph up, and tell the session what the model costs.
"""

from __future__ import annotations

import logging
from time import perf_counter

import numpy as np

from serving.bundle import canonical_columns, check_columns
from serving.errors import BundleError, DataError, InferenceFailed
from serving.predictor.graph import Scores
from serving.predictor.rows import Columns, Rows
from serving.predictor.session import ModelSession

GOLDEN_TOLERANCE = 1e-5
_MANY_ROWS = 64
_TIMES = 6

logger = logging.getLogger("seatrial.predictor")


def rehearse(session: ModelSession) -> None:
    """Raises BundleError when the model fails, or does not give the stored answers to 1e-5."""
    _run_example(session)
    golden = _run_golden_rows(session)
    if golden.count:
        _measure(session, golden)


def _run_example(session: ModelSession) -> None:
    contract = session.bundle.contract
    if not contract.example:
        return
    where = f"{session.bundle.path}/contract.json: example"
    try:
        columns = canonical_columns(contract, {name: [v] for name, v in contract.example.items()})
    except DataError as error:
        logger.warning("%s: %s; warming up without it", where, error)
        return
    violations = check_columns(contract, columns)
    if violations:
        logger.warning("%s: %s; warming up without it", where, violations[0].sentence())
        return
    _run(session, _rows(columns), f"{where}: the model fails on it")


def _run_golden_rows(session: ModelSession) -> Rows:
    where = f"{session.bundle.path}/golden.json"
    try:
        golden = session.bundle.read_json("golden.json")
        columns = canonical_columns(session.bundle.contract, golden["columns"])
        expected = np.asarray(golden["score"], dtype=np.float64)
    except (DataError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BundleError(f"{where}: no golden rows to read ({error}); retrain") from None
    rows = _rows(columns)
    scores = _run(session, rows, f"{where}: the model fails on the golden rows")
    if scores.shape != expected.shape:
        raise BundleError(
            f"{where}: {len(scores)} golden rows, {len(expected)} stored scores; retrain"
        )
    off = np.flatnonzero(~(np.abs(scores - expected) <= GOLDEN_TOLERANCE))
    if len(off):
        row = int(off[0])
        raise BundleError(
            f"{where}: golden row {row} scores {scores[row]:.6g} here,"
            f" the bundle says {expected[row]:.6g}; do not serve it, retrain"
        )
    return rows


def _measure(session: ModelSession, golden: Rows) -> None:
    def seconds(count: int) -> float:
        at = np.arange(count) % golden.count
        rows = Rows(golden.names, count, {n: c[at] for n, c in golden.columns.items()})
        best = session.budget_seconds
        for _ in range(_TIMES):
            start = perf_counter()
            session.run_watched(rows)
            best = min(best, perf_counter() - start)
        return best

    try:
        one = seconds(1)
        session.expect(one, max(0.0, seconds(_MANY_ROWS) - one) / (_MANY_ROWS - 1))
    except InferenceFailed:
        pass  # a few golden rows by themselves are no promise; it then runs in workers


def _run(session: ModelSession, rows: Rows, failure: str) -> Scores:
    """Raises BundleError that begins with `failure`."""
    try:
        return session.run_watched(rows)
    except InferenceFailed as error:
        raise BundleError(f"{failure}: {error}") from None


def _rows(columns: Columns) -> Rows:
    return Rows(tuple(columns), len(next(iter(columns.values()))), columns)
