"""The label book: predictions in, labels in, performance and its degradation out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.drift.labels.baseline import Baseline
from serving.drift.labels.evidence import Evidence
from serving.drift.labels.memory import Predictions, hash_ids
from serving.drift.labels.recent import Recent, Rows
from serving.errors import DataError

DAY = 86_400.0
OLDEST = 365
"""Days; labels of older predictions count as of this age, so that /metrics stays bounded."""
EARLY = 65_536
"""Labels that came before their prediction, kept until it comes."""
APPROVED = "approve"
"""The one decision that does not flag a row."""


@dataclass(frozen=True)
class LabelSettings:
    rows: int = 250_000
    """Predictions that are remembered; about 25 MB a million."""
    ttl: float = 30 * DAY
    """Seconds that a prediction waits for its label."""
    window: int = 5_000
    """Labelled rows that accuracy, average precision and calibration are measured on."""
    average_run_length: float = 1_000_000
    """Labelled rows between two false events, on average, at least."""
    complete: bool = True
    """False: one class is labelled sooner or more often than the other, as where only chargebacks
    are reported; then only rates within a class are judged."""
    review: float = 0.5
    """The contract's threshold from which a row without a decision counts as flagged."""


@dataclass(frozen=True)
class Degraded:
    """One finding: the data of an io.seatrial.performance.degraded event."""

    identity: tuple[Any, ...]
    """What tells it from the book's other findings, the same after a restart."""
    data: Mapping[str, Any]


class LabelBook:
    """What one arm predicted and what became of it. Not thread-safe."""

    def __init__(self, settings: LabelSettings, baseline: Baseline | None) -> None:
        """`baseline`: how good the bundle was on its test rows; without it nothing is judged."""
        self.settings, self.baseline = settings, baseline
        self.predictions = Predictions(settings.rows, settings.ttl)
        self.recent = Recent(settings.window)
        self.evidence = None if baseline is None else Evidence(baseline, complete=settings.complete)
        self.counts: Counter[tuple[int, str]] = Counter()
        """(age in days, "right" or "wrong") -> labels: seatrial_labels_total of this arm."""
        self.labelled = self.unknown = 0
        self.degraded = False
        """True from an event until as many labelled rows as twice a window show no more of it."""
        self._episodes = 0
        self._quiet = 0
        self._early: list[tuple[NDArray[np.uint64], NDArray[np.bool_], NDArray[np.float64]]] = []
        self._found: list[Degraded] = []

    def remember(
        self,
        ids: Sequence[str],
        scores: Sequence[float] | NDArray[Any] | None,
        decisions: Sequence[str] | None,
        time: float,
    ) -> None:
        """Rows that were answered at `time`; without a score there is nothing to judge."""
        if scores is None or not len(ids):
            return
        score = np.asarray(scores, np.float64)
        if decisions is not None:
            flagged = np.asarray(decisions, object) != APPROVED
        else:
            flagged = score >= self.settings.review
        self.predictions.add(ids, score, flagged, time)

    def label(
        self, ids: Sequence[str], outcomes: Sequence[bool], times: Sequence[float]
    ) -> dict[str, int]:
        """What rows turned out to be, and when that was known (unix seconds).

        Returns how many were joined; the others are unknown here, or were labelled before.
        """
        if not len(ids):
            return {"joined": 0, "unknown": 0}
        positive, at = np.asarray(outcomes, bool), np.asarray(times, np.float64)
        key = hash_ids(list(ids))
        joined = self._join(key, positive, at)
        left = np.setdiff1d(np.arange(len(key)), joined)
        self.unknown += len(left)
        if len(left) and sum(len(k) for k, _, _ in self._early) < EARLY:
            self._early.append((key[left], positive[left], at[left]))
        return {"joined": len(joined), "unknown": len(left)}

    def step(self, now: float) -> list[Degraded]:
        """Joins what had come too early; returns findings since the last step, oldest first."""
        early, self._early = self._early, []
        for key, positive, at in early:
            joined = self._join(key, positive, at)
            self.unknown -= len(joined)
            left = np.setdiff1d(np.arange(len(key)), joined)
            left = left[at[left] > now - self.settings.ttl]
            if len(left):
                self._early.append((key[left], positive[left], at[left]))
        found, self._found = self._found, []
        return found

    def status(self) -> dict[str, Any]:
        """What /status shows under `labels`; another thread may ask."""
        return {
            "counts": [[age, kind, n] for (age, kind), n in sorted(self.counts.items())],
            "waiting": self.predictions.waiting,
            "forgotten": self.predictions.forgotten,
            "labelled": self.labelled,
            "unknown": self.unknown,
            "degraded": self.degraded,
            "measured": self.recent.measures(),
            "baseline": None if self.baseline is None else self.baseline.to_json(),
            "evidence": None if self.evidence is None else _finite(self.evidence.total),
            "threshold": math.log(self.settings.average_run_length),
            "findings": [
                {"aspect": f.aspect, "direction": f.direction, "evidence": _finite(f.evidence)}
                for f in (self.evidence.findings() if self.evidence else ())
            ],
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The state, as plain arrays for an .npz; labels that came too early are left out."""
        counted = sorted(self.counts.items())
        parts: dict[str, dict[str, NDArray[Any]]] = {
            "predictions": self.predictions.arrays(),
            "recent": self.recent.arrays(),
            "book": {
                "ages": np.array([age for (age, _), _ in counted], np.int64),
                "wrong": np.array([outcome == "wrong" for (_, outcome), _ in counted], bool),
                "labels": np.array([n for _, n in counted], np.int64),
                "totals": np.array(
                    [
                        *(self.labelled, self.unknown, self.predictions.forgotten),
                        *(self.degraded, self._episodes, self._quiet),
                    ],
                    np.int64,
                ),
            },
        }
        if self.evidence is not None:
            parts["evidence"] = self.evidence.arrays()
        return {f"{part}.{name}": array for part, a in parts.items() for name, array in a.items()}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Takes up a state. Raises DataError for one that is damaged or of another baseline."""

        def part(prefix: str) -> dict[str, NDArray[Any]]:
            start = prefix + "."
            return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}

        book = part("book")
        ages, wrong, labels, totals = (book.get(n) for n in ("ages", "wrong", "labels", "totals"))
        if ages is None or wrong is None or labels is None or totals is None or len(totals) != 6:
            raise DataError("the label book's state is damaged")
        if self.evidence is not None:
            self.evidence.load(part("evidence"))
        self.predictions.load(part("predictions"))
        self.recent.load(part("recent"))
        self.counts = Counter(
            {
                (int(age), "wrong" if bad else "right"): int(n)
                for age, bad, n in zip(ages, wrong, labels, strict=True)
            }
        )
        found = [int(value) for value in totals]
        self.labelled, self.unknown, self.predictions.forgotten = found[:3]
        self.degraded, self._episodes, self._quiet = bool(found[3]), found[4], found[5]

    def _join(
        self, key: NDArray[np.uint64], positive: NDArray[np.bool_], at: NDArray[np.float64]
    ) -> NDArray[np.intp]:
        """Positions of the labels that found their prediction."""
        joined = self.predictions.take(key)
        if not len(joined.at):
            return joined.at
        truth = positive[joined.at]
        age = np.clip((at[joined.at] - joined.time) // DAY, 0, OLDEST).astype(int)
        wrong = joined.flagged != truth
        for (days, bad), n in Counter(zip(age.tolist(), wrong.tolist(), strict=True)).items():
            self.counts[days, "wrong" if bad else "right"] += n
        self.labelled += len(truth)
        self.recent.add(Rows(joined.score, joined.flagged, truth, joined.time))
        self._judge(joined.score, joined.flagged, truth)
        return joined.at

    def _judge(
        self, score: NDArray[np.float64], flagged: NDArray[np.bool_], truth: NDArray[np.bool_]
    ) -> None:
        if self.evidence is None:
            return
        bar = math.log(self.settings.average_run_length)
        crossed = self.evidence.observe(score, flagged, truth, bar)
        if crossed is not None:
            if not self.degraded:
                self._episodes += 1
                self._found.append(self._finding())
            self.degraded, self._quiet = True, 0
            # What lasts crosses again; what is over does not.
            self.evidence.restart()
        elif self.degraded:
            self._quiet += len(truth)
            self.degraded = self._quiet < 2 * self.settings.window

    def _finding(self) -> Degraded:
        assert self.evidence is not None  # noqa: S101 - the caller has seen it
        strongest = self.evidence.findings()[0]
        time = self.recent.rows.time
        start, end = float(time.min()), float(time.max())
        return Degraded(
            identity=(self._episodes, self.labelled),
            data={
                "severity": "critical",
                "aspect": strongest.aspect,
                "direction": strongest.direction,
                "evidence": {
                    "total": _short(self.evidence.total),
                    "threshold": _short(math.log(self.settings.average_run_length)),
                    "average_run_length": self.settings.average_run_length,
                },
                "window": {
                    "number": self._episodes,
                    "rows": len(self.recent),
                    "from": _timestamp(start),
                    "to": _timestamp(end),
                },
                "labelled": self.labelled,
                "measured": {k: _short(v) for k, v in self.recent.measures().items()},
                "baseline": self.baseline.to_json() if self.baseline else None,
            },
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _timestamp(seconds: float) -> str:
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
