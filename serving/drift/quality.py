"""Rows against their contract: what breaks it, and since when so much that someone should know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from serving.bundle import Contract
from serving.drift.encoding import Column, Matrix
from serving.drift.gather import Violations

FEWEST = 3
"""Rows that must break the contract in one way before it is worth an event."""
KINDS = ("type", "absent", "extra", "missing", "infinite", "below", "above", "fraction", "unseen")


@dataclass(frozen=True)
class Finding:
    """One feature breaks the contract in one way."""

    feature: str
    kind: str
    rows: int
    """How many rows do, of `of` rows."""
    of: int
    usual: float
    """Their share in the reference."""
    since: str = ""

    @property
    def share(self) -> float:
        return self.rows / self.of if self.of else 0.0


class ContractCheck:
    """Counts violations in encoded rows [n, columns]; what encoding itself found comes beside."""

    def __init__(self, contract: Contract, columns: Sequence[Column]) -> None:
        features = {f.name: f for f in contract.features}
        self._names = [column.name for column in columns]
        watched = [features.get(c.name) if c.role == "feature" else None for c in columns]
        numbers = [f if f is not None and f.dtype != "string" else None for f in watched]
        self._low = np.array([_bound(f, "min", -np.inf) for f in numbers])
        self._high = np.array([_bound(f, "max", np.inf) for f in numbers])
        self._texts = np.flatnonzero([f is not None and f.dtype == "string" for f in watched])
        self._whole = np.flatnonzero([f is not None and f.dtype == "int64" for f in watched])
        self._full = np.flatnonzero([f is not None and not f.nullable for f in watched])
        self._number = np.array([f is not None for f in numbers])

    def count(self, rows: Matrix, found: Violations | None = None) -> Violations:
        """Rows by (feature, kind), those that encoding found included."""
        total: Violations = Counter(found or ())
        # Comparisons with NaN are false, so missing values break no bound.
        infinite = np.isinf(rows) & self._number
        self._add(total, "infinite", infinite.sum(axis=0))
        self._add(total, "below", ((rows < self._low) & ~infinite).sum(axis=0))
        self._add(total, "above", ((rows > self._high) & ~infinite).sum(axis=0))
        texts, whole, full = (rows[:, at] for at in (self._texts, self._whole, self._full))
        self._add(total, "unseen", (texts < 0).sum(axis=0), self._texts)
        with np.errstate(invalid="ignore"):
            broken = np.isfinite(whole) & (whole != np.floor(whole))
        self._add(total, "fraction", broken.sum(axis=0), self._whole)
        missing = np.isnan(full).sum(axis=0)
        for at, count in zip(self._full, missing, strict=True):
            name = self._names[at]
            # What is absent or of another type was made missing by the encoding.
            own = int(count) - total[name, "type"] - total[name, "absent"]
            if own > 0:
                total[name, "missing"] += own
        return +total

    def _add(self, total: Violations, kind: str, counts: Any, at: Any = None) -> None:
        for i in np.flatnonzero(counts):
            total[self._names[i if at is None else at[i]], kind] += int(counts[i])


class QualityBook:
    """Which violations stand: raised above a share of the recent rows, settled below half of it.

    Recent is the last whole window and the one being filled. `usual` are the reference's own
    violations: a contract that its training data broke must not be news for ever.
    """

    def __init__(self, usual: Violations, reference_rows: int, share: float) -> None:
        self._usual = {key: count / max(reference_rows, 1) for key, count in usual.items()}
        self._share = share
        self._current: Violations = Counter()
        self._last: Violations = Counter()
        self._rows = self._last_rows = 0
        self.raised: dict[tuple[str, str], str] = {}
        """Since when each standing violation stands."""
        self.total: Violations = Counter()

    def add(self, rows: int, violations: Violations, now: str) -> list[Finding]:
        """Counts rows; returns what is raised by them."""
        self._rows += rows
        if not violations:
            return []
        self._current.update(violations)
        self.total.update(violations)
        raised = []
        for key in violations:
            finding = self._finding(key)
            if key in self.raised or finding.rows < FEWEST:
                continue
            if finding.share >= finding.usual + self._share:
                self.raised[key] = now
                raised.append(self._finding(key))
        return sorted(raised, key=lambda f: (-f.share, f.feature, f.kind))

    def end_window(self) -> list[tuple[str, str]]:
        """Begins a new window; returns what is settled by the one that ends."""
        rows = max(self._rows, 1)
        settled = [
            key
            for key in self.raised
            if self._current[key] / rows < self._usual.get(key, 0.0) + self._share / 2
        ]
        for key in settled:
            del self.raised[key]
        self._last, self._last_rows = self._current, self._rows
        self._current, self._rows = Counter(), 0
        return settled

    def findings(self) -> list[Finding]:
        """Every violation in the recent rows or standing, the largest share first."""
        keys = {*self._last, *self._current, *self.raised}
        return sorted(map(self._finding, keys), key=lambda f: (-f.share, f.feature, f.kind))

    def to_json(self) -> dict[str, Any]:
        def pairs(given: Mapping[tuple[str, str], Any]) -> list[list[Any]]:
            return [[*key, value] for key, value in given.items()]

        return {
            "current": pairs(self._current),
            "last": pairs(self._last),
            "total": pairs(self.total),
            "raised": pairs(self.raised),
            "rows": [self._rows, self._last_rows],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        def keyed(given: Sequence[Sequence[Any]]) -> dict[tuple[str, str], Any]:
            return {(str(a), str(b)): value for a, b, value in given}

        self._current = Counter(keyed(state["current"]))
        self._last = Counter(keyed(state["last"]))
        self.total = Counter(keyed(state["total"]))
        self.raised = keyed(state["raised"])
        self._rows, self._last_rows = map(int, state["rows"])

    def _finding(self, key: tuple[str, str]) -> Finding:
        return Finding(
            *key,
            rows=self._last[key] + self._current[key],
            of=self._rows + self._last_rows,
            usual=self._usual.get(key, 0.0),
            since=self.raised.get(key, ""),
        )


def describe(finding: Finding) -> dict[str, Any]:
    """As events and /status tell it."""
    return {**asdict(finding), "share": float(f"{finding.share:.4g}")}


def _bound(feature: Any, name: str, absent: float) -> float:
    bound = getattr(feature, name, None)
    if bound is None:
        return absent
    # The predictor compares a float32 feature as float32, as its rows were rounded.
    return float(np.float32(bound)) if feature.dtype == "float32" else float(bound)
