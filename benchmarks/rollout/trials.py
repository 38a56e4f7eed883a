"""All tools on all scenarios, and the thresholds that each would have chosen in hindsight."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.rollout import kayenta
from benchmarks.rollout.gate import Gate
from benchmarks.rollout.tools import Argo, Flagger, Verdict, play
from benchmarks.rollout.traffic import SCENARIOS, Ints, Scenario, Traffic

RATES = (2, 20, 200)
MAX_RATES = (0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05)
"""Thresholds that hindsight may choose from, for Flagger and Argo Rollouts."""
FAILURES = (0, 1, 2, 3, 4, 5, 8, 12)
CONFIDENCES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
TOLERANCES = (0.0, 0.25, 1.0)


@dataclass(frozen=True)
class Cell:
    """One tool on one scenario at one rate."""

    runs: int
    promoted: int
    rolled_back: int
    held: int
    median_minutes: float

    @classmethod
    def of(cls, verdicts: Ints, looks: Ints) -> Cell:
        counts = [int((verdicts == kind).sum()) for kind in list(Verdict)[1:]]
        promoted, rolled_back, held = counts
        return cls(len(verdicts), promoted, rolled_back, held, float(np.median(looks)))

    def wrong(self, bad: bool) -> int:
        return self.promoted if bad else self.rolled_back

    def interval(self, bad: bool) -> tuple[float, float]:
        """Clopper-Pearson, 95 %, of the share of wrong decisions."""
        k, n = self.wrong(bad), self.runs
        low = stats.beta.ppf(0.025, k, n - k + 1) if k else 0.0
        high = stats.beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
        return float(low), float(high)

    def to_json(self, bad: bool) -> dict[str, Any]:
        low, high = self.interval(bad)
        shown = {
            "promoted": self.promoted,
            "rolled_back": self.rolled_back,
            "held": self.held,
            "median_minutes": self.median_minutes,
        }
        return {**shown, "wrong": self.wrong(bad) / self.runs, "interval": [low, high]}


Row = dict[str, Cell]
"""Cell per scenario's name, of one tool at one rate."""


@dataclass(frozen=True)
class Worst:
    """Of one tool at one rate, over the scenarios."""

    false_rollback: float
    promoted_bad: float

    @property
    def total(self) -> float:
        return self.false_rollback + self.promoted_bad


ON_THRESHOLDS = tuple(
    kind
    for kind in SCENARIOS
    if kind.stops is None and not (kind.bad and kind.top_decile_odds != 1.0)
)
"""Scenarios that a threshold on errors and latency can settle: traffic goes on, and it is not the
scores alone that are bad."""


def worst(row: Row, kinds: Iterable[Scenario] = SCENARIOS) -> Worst:
    shares = {False: 0.0, True: 0.0}
    for kind in kinds:
        cell = row[kind.name]
        shares[kind.bad] = max(shares[kind.bad], cell.wrong(kind.bad) / cell.runs)
    return Worst(shares[False], shares[True])


def trials(rate: int, runs: int, seed: int) -> dict[str, Row]:
    """Row per tool; a tool's name tells the thresholds that hindsight chose."""
    flagger = [
        (f"max {p:.4g}, {k} failed", _played(partial(Flagger, max_rate=p, threshold=k)))
        for p, k in product(MAX_RATES, FAILURES[1:])
    ]
    argo = [
        (f"max {p:.4g}, limit {k}", _played(partial(Argo, max_rate=p, limit=k)))
        for p, k in product(MAX_RATES, FAILURES[:5])
    ]
    found: dict[str, Row] = {"Seatrial": {}}
    for index, kind in enumerate(SCENARIOS):
        traffic = Traffic(kind, rate, runs, _seed(seed, rate, index))
        found["Seatrial"][kind.name] = Cell.of(*play(Gate(runs, traffic), traffic, runs))
    for name, make in (
        ("Flagger, 5 failed checks", _played(Flagger)),
        ("Argo, limit 0", _played(Argo)),
        ("Argo, limit 3", _played(partial(Argo, limit=3))),
    ):
        found[name] = _row(make, rate, runs, seed)
    judged = _kayentas(rate, runs, seed)
    for name, scores in (("Kayenta", True), ("Kayenta, no score metric", False)):
        found[name] = judged[_kayenta(kayenta.CONFIDENCE, kayenta.TOLERANCE, scores)]
    for tool, settings in (("Flagger", flagger), ("Argo", argo)):
        rows = {name: _row(make, rate, runs, seed) for name, make in settings}
        found |= _best(tool, rows)
    return found | _best("Kayenta", judged)


Player = Callable[[Traffic, int], tuple[Ints, Ints]]


def _played(make: Callable[[int], Flagger | Argo]) -> Player:
    return lambda traffic, runs: play(make(runs), traffic, runs)


def _row(player: Player, rate: int, runs: int, seed: int) -> Row:
    return {
        kind.name: Cell.of(*player(Traffic(kind, rate, runs, _seed(seed, rate, index)), runs))
        for index, kind in enumerate(SCENARIOS)
    }


def _kayentas(rate: int, runs: int, seed: int) -> dict[str, Row]:
    found: dict[str, Row] = {}
    looks = np.full(runs, kayenta.POINTS)
    for index, kind in enumerate(SCENARIOS):
        traffic = Traffic(kind, rate, runs, _seed(seed, rate, index))
        points = kayenta.collect(traffic, runs)
        for tolerance in TOLERANCES:
            judged = kayenta.judged(points, tolerance)
            for confidence, scores in product(CONFIDENCES, (True, False)):
                verdicts = kayenta.verdicts(judged, confidence, scores)
                row = found.setdefault(_kayenta(confidence, tolerance, scores), {})
                row[kind.name] = Cell.of(verdicts, looks)
    return found


def _kayenta(confidence: float, tolerance: float, scores: bool) -> str:
    metrics = "" if scores else ", no score metric"
    return f"confidence {confidence:g}, tolerance {tolerance:g}{metrics}"


def _best(tool: str, rows: dict[str, Row]) -> dict[str, Row]:
    name = min(rows, key=lambda name: worst(rows[name], ON_THRESHOLDS).total)
    return {f"{tool} in hindsight ({name})": rows[name]}


def _seed(seed: int, rate: int, index: int) -> int:
    return int(np.random.SeedSequence([seed, rate, index]).generate_state(1)[0])


def independent(kinds: Iterable[Scenario] = SCENARIOS) -> list[Scenario]:
    """Scenarios whose errors do not come in bursts."""
    return [kind for kind in kinds if kind.burst == 1]
