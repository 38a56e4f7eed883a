"""The drift reference of a bundle: a sample of the training window, tried before it is shipped.

Runs in the drift environment: numpy and Alibi Detect, no pandas. Alibi is imported only when the
detector is tried.
"""

from __future__ import annotations

import io
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.files import write_bytes
from serving.bundle import Contract, canonical_columns
from serving.drift.detector import DriftDetector, TestResult
from serving.drift.encoding import SCORE, Encoder, Matrix
from serving.errors import DataError, FileError, StageError

TRIED = 60
"""Windows of each kind that the detector is tried on at most."""
ODDS = 1e-3
"""A false positive rate less likely than this by chance, at twice the p-value, is a fault."""


@dataclass(frozen=True)
class Trial:
    """What the detector said about windows without drift, each tested at p_value on its own."""

    windows: int
    """Windows of held-out rows drawn at random."""
    false_positive_rate: float
    consecutive_windows: int
    """Windows of consecutive rows of the training window: these differ by hour, day and season."""
    consecutive_alarm_rate: float
    usual: dict[str, dict[str, float]]
    """By column and aspect: the largest effect in a consecutive window."""


def fit_drift(
    data: Path,
    contract: Contract,
    out: Path,
    *,
    rows: int = 5000,
    p_value: float = 0.05,
    window: int = 500,
    seed: int = 0,
) -> Trial:
    """Writes `out`/reference.npz and `out`/config.json and returns how the detector did.

    `data` is an .npz of the training window in time order: one array [n] per feature and `score`.
    The reference is `rows` of them, at most half, so that the others can try the detector.
    Equal arguments give equal bytes.

    Raises FileError or DataError for rows that cannot be used, StageError when the detector takes
    rows without drift for drift.
    """
    if not 0 < p_value < 1:
        raise DataError(f"p_value {p_value:g} is not a probability; give one between 0 and 1")
    columns = read_rows(data, contract)
    total = len(columns[SCORE])
    size = min(rows, total // 2)
    if size < window or window < 20:
        raise DataError(
            f"{data}: a reference of {size} rows (of {total}) cannot serve windows of {window};"
            f" give at least {2 * window} rows, or windows of 20 rows up to the reference's"
        )
    order = np.random.default_rng(seed).permutation(total)
    chosen, held_out = np.sort(order[:size]), order[size:]
    reference: dict[str, Any] = {name: _stored(column[chosen]) for name, column in columns.items()}
    encoder = Encoder(contract, contract.feature_names, score=True)
    matrix = encoder.encode({n: c for n, c in columns.items() if n != SCORE}, columns[SCORE])
    trial = try_detector(
        build_detector(encoder, matrix[chosen], window), matrix, held_out, p_value, window
    )
    alarms = round(trial.false_positive_rate * trial.windows)
    if _at_least(alarms, trial.windows, min(1.0, 2 * p_value)) < ODDS:
        raise StageError(
            f"{data}: the drift detector calls {alarms} of {trial.windows} windows of held-out rows"
            f" drift at p_value {p_value:g}; give a larger reference than {size} rows"
        )
    config = {
        "detector": "tabular",
        "p_value": p_value,
        "window": window,
        "features": list(contract.feature_names),
        "usual": trial.usual,
        "trial": {k: v for k, v in asdict(trial).items() if k != "usual"},
    }
    out.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    np.savez(packed, **reference)
    write_bytes(out / "reference.npz", packed.getvalue())
    write_bytes(out / "config.json", (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())
    return trial


def read_rows(data: Path, contract: Contract) -> dict[str, NDArray[Any]]:
    """The contract's columns and the score, checked. Raises FileError or DataError."""
    try:
        with np.load(data, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError) as error:
        raise FileError(f"{data}: cannot read an .npz of plain arrays: {error}") from None
    if SCORE in contract.feature_names:
        raise DataError(f"{data}: a feature named '{SCORE}' hides the model's score; rename it")
    if SCORE not in arrays:
        raise DataError(f"{data}: array '{SCORE}' is missing; add the model's score of each row")
    score = arrays.pop(SCORE)
    try:
        columns = canonical_columns(contract, arrays)
    except DataError as error:
        raise DataError(f"{data}: {error}") from None
    count = len(columns[contract.feature_names[0]])
    if count == 0:
        raise DataError(f"{data}: there are no rows to draw a drift reference from")
    if score.shape != (count,) or score.dtype.kind != "f" or not np.isfinite(score).all():
        raise DataError(f"{data}: '{SCORE}' must be {count} finite floats, one for each row")
    return {**columns, SCORE: score}


def build_detector(encoder: Encoder, reference: Matrix, window: int) -> DriftDetector:
    """The detector that the sidecar will build."""
    from serving.drift.alibi import AlibiTabular  # noqa: PLC0415

    return AlibiTabular(encoder.columns, reference, window)


def try_detector(
    detector: DriftDetector, rows: Matrix, held_out: NDArray[np.intp], p_value: float, window: int
) -> Trial:
    """Tests windows of `held_out` rows, drawn at random, and windows of consecutive `rows`."""
    drawn = [detector.test(rows[part]) for part in _windows(held_out, window)]
    consecutive = [detector.test(rows[part]) for part in _windows(np.arange(len(rows)), window)]
    usual: dict[str, dict[str, float]] = {}
    for results in consecutive:
        for result in results:
            aspects = usual.setdefault(result.column, {})
            effect = round(result.effect, 4)
            aspects[result.aspect] = max(effect, aspects.get(result.aspect, 0.0))
    return Trial(
        windows=len(drawn),
        false_positive_rate=_alarm_rate(drawn, p_value),
        consecutive_windows=len(consecutive),
        consecutive_alarm_rate=_alarm_rate(consecutive, p_value),
        usual=usual,
    )


def _windows(positions: NDArray[np.intp], window: int) -> list[NDArray[np.intp]]:
    """Whole windows of the positions in their order, at most TRIED, evenly spaced."""
    count = len(positions) // window
    picked = np.unique(np.linspace(0, count - 1, min(count, TRIED)).astype(int))
    return [positions[i * window : (i + 1) * window] for i in picked]


def _alarm_rate(tested: list[tuple[TestResult, ...]], p_value: float) -> float:
    alarms = [min(r.p_value for r in results) * len(results) < p_value for results in tested]
    return round(float(np.mean(alarms)), 4)


def _at_least(count: int, of: int, rate: float) -> float:
    """P(X >= count) for X binomial(of, rate)."""
    return sum(math.comb(of, k) * rate**k * (1 - rate) ** (of - k) for k in range(count, of + 1))


def _stored(column: NDArray[Any]) -> NDArray[Any]:
    return column.astype("U") if column.dtype == object else column
