"""The drift reference of a bundle: a sample of the training window, tried before it is shipped.

Needs numpy, no pandas; the drift environment where window tests are on, because it tries the very
detector that the sidecar will build.
"""

from __future__ import annotations

import io
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.files import write_bytes
from serving.bundle import Contract, canonical_columns
from serving.drift.config import DriftConfig, WatchConfig, WindowsConfig, parse_config
from serving.drift.detector import Aspect, DriftDetector, TestResult, build_detector
from serving.drift.encoding import DECISION, SCORE, Encoder, Matrix
from serving.drift.watch import Watch, WatchSettings, learn_tolerance
from serving.errors import DataError, FileError, StageError
from serving.policy import decide

TRIED = 60
"""Windows of each kind that the detector is tried on at most."""
ODDS = 1e-3
"""A false positive rate less likely than this by chance, at twice the p-value, is a fault."""
DETECTORS = ("tabular", "ks", "chi2", "mmd", "none")
LOOK = 320
"""Rows between two readings of the watch's evidence."""


@dataclass(frozen=True)
class Trial:
    """What the window tests said about windows without drift, each tested at p_value on its own."""

    windows: int
    """Windows of held-out rows drawn at random."""
    false_positive_rate: float
    consecutive_windows: int
    """Windows of consecutive rows of the training window: these differ by hour, day and season."""
    consecutive_alarm_rate: float
    usual: dict[str, dict[Aspect, float]]
    """By column and aspect: the largest effect in a consecutive window."""


@dataclass(frozen=True)
class Fitted:
    """What was fitted; None for what is off."""

    trial: Trial | None
    watch_evidence: float | None
    """Natural log of the most that the watch made of the training window in time order, with what
    it learned from it; an alarm needs the log of its average run length."""

    def figures(self) -> dict[str, float]:
        """What config.json's `trial` and the artifact's metadata tell."""
        told: dict[str, float] = {}
        if self.trial is not None:
            told |= {k: v for k, v in asdict(self.trial).items() if k != "usual"}
        if self.watch_evidence is not None:
            told["watch_evidence"] = round(self.watch_evidence, 3)
        return told


def fit_drift(
    data: Path,
    contract: Contract,
    out: Path,
    *,
    rows: int = 5000,
    p_value: float = 0.05,
    window: int = 500,
    seed: int = 0,
    detector: str = "tabular",
    watch: bool = True,
) -> Fitted:
    """Writes `out`/reference.npz and `out`/config.json and returns how the detectors did.

    `data` is an .npz of the training window in time order: one array [n] per feature and `score`.
    The reference is `rows` of them, at most half, so that the others can try the window tests.
    `detector` is tabular, ks, chi2, mmd or none. Equal arguments give equal bytes.

    Raises FileError or DataError for rows that cannot be used, StageError when the window tests
    take rows without drift for drift.
    """
    if not 0 < p_value < 1:
        raise DataError(f"p_value {p_value:g} is not a probability; give one between 0 and 1")
    if detector not in DETECTORS:
        raise DataError(f"detector '{detector}' is unknown; give one of {', '.join(DETECTORS)}")
    if detector == "none" and not watch:
        raise DataError("neither window tests nor the watch are on; turn on at least one")
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
    encoder = Encoder(contract, contract.feature_names, score=True, decision=DECISION in columns)
    features = {name: columns[name] for name in contract.feature_names}
    matrix = encoder.encode(features, columns[SCORE], columns.get(DECISION))
    trial = windows = None
    if detector != "none":
        try:
            tests = build_detector(detector, encoder.columns, matrix[chosen], window)
        except ImportError as error:
            raise StageError(
                f"detector '{detector}' needs Alibi Detect ({error}); run in the drift environment"
                " or give detector none, which leaves the watch"
            ) from None
        trial = try_detector(tests, matrix, held_out, p_value, window)
        _check(trial, data, p_value, size)
        windows = {"detector": detector, "p_value": p_value, "size": window, "usual": trial.usual}
    learned, evidence = None, None
    if watch:
        learned = WatchConfig(tolerance=learn_tolerance(encoder.columns, matrix[chosen], matrix))
        evidence = most_evidence(encoder, matrix[chosen], matrix, learned)
    fitted = Fitted(trial, evidence)
    config = DriftConfig(
        features=contract.feature_names,
        watch=learned,
        windows=WindowsConfig.model_validate(windows) if windows else None,
        trial=fitted.figures(),
    )
    out.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    reference: dict[str, Any] = {name: _stored(column[chosen]) for name, column in columns.items()}
    np.savez(packed, **reference)
    write_bytes(out / "reference.npz", packed.getvalue())
    text = config.to_json()
    parse_config(text, "config.json")
    write_bytes(out / "config.json", text.encode())
    return fitted


def most_evidence(encoder: Encoder, reference: Matrix, rows: Matrix, learned: WatchConfig) -> float:
    """The largest evidence, in nats, while the watch sees `rows` [n, columns] in their order."""
    watch = Watch(encoder.columns, reference, WatchSettings(tolerance=learned.tolerance))
    parts = np.array_split(rows, max(len(rows) // LOOK, 1))
    return max(watch.observe(part).evidence for part in parts)


def _check(trial: Trial, data: Path, p_value: float, size: int) -> None:
    """Raises StageError for alarms on held-out rows that cannot be chance."""
    alarms = round(trial.false_positive_rate * trial.windows)
    if _at_least(alarms, trial.windows, min(1.0, 2 * p_value)) < ODDS:
        raise StageError(
            f"{data}: the drift detector calls {alarms} of {trial.windows} windows of held-out rows"
            f" drift at p_value {p_value:g}; give a larger reference than {size} rows"
        )


def read_rows(data: Path, contract: Contract) -> dict[str, NDArray[Any]]:
    """The contract's columns, the score and what the contract decides, checked.

    Decisions are left out where a feature has their name. Raises FileError or DataError.
    """
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
    found = {**columns, SCORE: score}
    if DECISION not in columns:
        found[DECISION] = decide(contract, columns, score).decisions
    return found


def try_detector(
    detector: DriftDetector, rows: Matrix, held_out: NDArray[np.intp], p_value: float, window: int
) -> Trial:
    """Tests windows of `held_out` rows, drawn at random, and windows of consecutive `rows`."""
    drawn = [detector.test(rows[part]) for part in _windows(held_out, window)]
    consecutive = [detector.test(rows[part]) for part in _windows(np.arange(len(rows)), window)]
    usual: dict[str, dict[Aspect, float]] = {}
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
