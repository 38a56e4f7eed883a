"""Everything that watches the rows of one introduced bundle: encoded rows in, events out."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from serving.drift.cells import Codes
from serving.drift.cloudevents import parse_time, timestamp
from serving.drift.detector import DriftDetector, TestResult
from serving.drift.encoding import Matrix
from serving.drift.episode import Episodes, Moved, Opener, Transition
from serving.drift.events import CloudEvent, Events, Evidence, Span
from serving.drift.gather import Gatherer
from serving.drift.introduction import Introduction
from serving.drift.labelling import label_book
from serving.drift.labels import Labels
from serving.drift.metrics import Metrics
from serving.drift.naming import certainty, moved_columns, nats, timeline_entry
from serving.drift.quality import ContractCheck, QualityBook, describe
from serving.drift.rows import Block
from serving.drift.settings import Settings
from serving.drift.sketch import Sketch
from serving.drift.spending import Spending, Verdict
from serving.drift.timeline import Timeline
from serving.drift.traffic import Traffic
from serving.drift.watch import Watch, WatchSettings
from serving.drift.window import Batch, Tumbler, Window

logger = logging.getLogger("seatrial.drift")

WINDOW = 500
"""Rows of a window where neither bundle nor settings give one."""
SETTLED = 100
"""Rows that a population stability index needs before it says anything."""


class Watching:
    """One bundle's watch, windows, sketches, contract check and episodes. Not thread-safe."""

    def __init__(
        self,
        known: Introduction,
        settings: Settings,
        metrics: Metrics,
        *,
        next_sequence: Callable[[], int],
        replica: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises DataError for a reference or config that cannot be used."""
        self.known = known
        self._metrics = metrics
        self._clock = clock
        self._next_sequence = next_sequence
        self.events = Events(known, replica)
        columns, config = known.encoder.columns, known.config
        self.gatherer = Gatherer(known.contract, known.encoder)
        self.check = ContractCheck(known.contract, columns)
        usual = self.check.count(known.reference)
        self.quality = QualityBook(usual, len(known.reference), settings.quality_share)
        self.traffic = Traffic(settings.false_alarm_days, settings.average_run_length, clock())
        self.watch: Watch | None = None
        if settings.watch == "on" or (settings.watch == "config" and config.watch is not None):
            tolerance = config.watch.tolerance if config.watch else {}
            self.watch = Watch(columns, known.reference, WatchSettings(tolerance=tolerance))
        windows = config.windows if settings.windows == "config" else None
        self.wants_windows = windows is not None
        size, seconds = window_length(known, settings)
        self.tumbler = Tumbler(size, seconds, clock(), keep_rows=self.wants_windows)
        self.spending = Spending(
            windows.p_value if windows else 0.05, windows.usual if windows else {}
        )
        self.episodes = Episodes(size or WINDOW)
        self.detector: DriftDetector | None = None
        self.problem = ""
        """Why there is no detector."""
        reference = Sketch.for_reference(columns, known.reference)
        self.current, self.last = Sketch(reference.grid), Sketch(reference.grid)
        if self.watch is not None:
            self.current, self.last = Sketch(self.watch.grid), Sketch(self.watch.grid)
        reference.add(known.reference)
        self.reference_missing = {c.name: reference.missing_ratio(c.name) for c in columns}
        self.timeline = Timeline()
        self.verdict: Verdict | None = None
        self.row = 0
        """Rows so far, over restarts too."""
        self.windows = 0
        """Whole windows so far."""
        self.seen = 0.0
        """Time of the last row."""
        self.moved: dict[tuple[str, str], str] = {}
        """What the watch alone is sure of, since when."""
        self.named: list[dict[str, Any]] = []
        """What the last opened event named, and what has moved since."""
        self.labels = label_book(known, settings)
        self._most_waiting = settings.ring_rows
        self._marked = -math.inf
        self._untested: deque[tuple[Window, int, Sketch]] = deque()
        self._last_window: Window | None = None

    def take(self, blocks: Sequence[Block]) -> list[CloudEvent]:
        """Watches rows; returns what there is to tell."""
        told: list[CloudEvent] = []
        now = self._clock()
        for gathered in self.gatherer.gather(blocks):
            rows, when = gathered.rows, gathered.block.time
            self.traffic.add(len(rows), now)
            self.seen = when
            found = self.check.count(rows, gathered.violations)
            raised = self.quality.add(len(rows), found, timestamp(when))
            if raised:
                span = Span(self.windows + 1, raised[0].of, when, when)
                told.append(
                    self.events.quality(list(map(describe, raised)), span, self._next_sequence())
                )
            codes = self.current.grid.code(rows)
            for part, window in self.tumbler.cut(Batch(rows, when), now):
                self._last_window = window or self._last_window
                own, codes = codes[: len(part.rows)], codes[len(part.rows) :]
                told += self._observe(own, part.time)
                if window is not None:
                    told += self._end(window)
            if self.labels is not None:
                block = gathered.block
                self.labels.remember(block.ids, gathered.scores, block.decisions, when)
        return told

    def label(self, labels: Labels) -> None:
        """Rows turned out to be something."""
        if self.labels is not None:
            self.labels.label(labels.ids, labels.outcomes, labels.times)

    def judge_labels(self, now: float) -> list[CloudEvent]:
        """What the labels since the last time say about the model."""
        found = self.labels.step(now) if self.labels is not None else []
        return [self.events.performance(f.identity, f.data, self._next_sequence()) for f in found]

    def test_next(self) -> list[CloudEvent]:
        """Tests the oldest window that waits: one at a time, so that others get a look in."""
        if not self.has_tests:
            return []
        window, row, sketch = self._untested.popleft()
        told = self._test(window, row, self.detector) if self.detector is not None else []
        return told + self._conclude(window, row, sketch)

    @property
    def has_tests(self) -> bool:
        return bool(self._untested) and (self.detector is not None or bool(self.problem))

    def retire(self, reason: str = "another bundle is served now") -> list[CloudEvent]:
        """The bundle is watched no more: an episode that is open ends with it."""
        episode = self.episodes.current
        if episode is None or not self.episodes.open:
            return []
        episode.resolved = timestamp(time.time())
        return [self._tell("resolved", self.seen, reason)]

    @property
    def waiting_windows(self) -> int:
        return len(self._untested)

    def _observe(self, codes: Codes, time: float) -> list[CloudEvent]:
        """One part of a window through the watch."""
        before = self.row
        self.row += len(codes)
        if self.watch is None:
            self.current.add_codes(codes)
            return []
        watch, episodes, when = self.watch, self.episodes, timestamp(time)
        watch.average_run_length = self.traffic.average_run_length
        step = watch.observe_codes(codes)
        self.current.add_counts(step.counts)
        if episodes.open:
            if step.evidence >= episodes.still(self.row):
                self._note_moves(when)
                episodes.alarm("watch", self.row, when, confirmed=False)
                watch.restart()
            return []
        if step.crossing is not None:
            row = before + step.crossing + 1
            told = self._open("watch", row, time)
            watch.restart()
            return told
        if step.evidence > watch.threshold / 2:
            self._note_moves(when)
        else:
            self.moved.clear()
            episodes.calm(self.row, when)
        return []

    def _end(self, window: Window) -> list[CloudEvent]:
        """A window is whole."""
        self.windows += 1
        for feature, kind in self.quality.end_window():
            logger.info("quality: %s of '%s' has settled", kind, feature)
        self.last, self.current = self.current, self.last
        self.current.clear()
        if not self.wants_windows:
            return self._conclude(window, self.row, self.last)
        # As many rows wait for their test as for the worker, no more: a detector takes seconds to
        # build, and more to test what came meanwhile.
        sketch = Sketch(self.last.grid)
        sketch.merge(self.last)
        self._untested.append((window, self.row, sketch))
        while sum(len(w.rows) for w, _, _ in self._untested) > self._most_waiting:
            self._untested.popleft()
        return []

    def _conclude(self, window: Window, row: int, sketch: Sketch) -> list[CloudEvent]:
        """All that there is to say about the rows up to `row` has been said."""
        if self.watch is None and not self.episodes.open:
            self.episodes.calm(row, timestamp(window.end))
        told = self._weigh_and_look(row, window.end, sketch)
        self._mark(window.end, keep=bool(told))
        return told

    def _test(self, window: Window, row: int, detector: DriftDetector) -> list[CloudEvent]:
        results = self._results(window.rows, detector)
        if results is None:
            return []
        self.verdict = verdict = self.spending.judge(results)
        self._metrics.windows.inc()
        for result in verdict.results:
            labels = (result.column, result.aspect)
            self._metrics.set_test(labels, result.p_value, result.effect)
        when = timestamp(window.end)
        if self.episodes.open:
            if verdict.drifted:
                self.episodes.alarm("windows", row, when, confirmed=False)
        elif verdict.opens:
            # It began within this window, at the latest with its first row.
            self.episodes.calm(row - len(window.rows), timestamp(window.start))
            return self._open("windows", row, window.end)
        return []

    def _results(self, rows: Matrix, detector: DriftDetector) -> tuple[TestResult, ...] | None:
        began = time.perf_counter()
        try:
            results = detector.test(rows)
        except Exception:
            # One window that cannot be tested must not end the watch over all that follow.
            self._metrics.failures.inc()
            logger.exception("a window of %d rows could not be tested", len(rows))
            return None
        self._metrics.seconds.observe(time.perf_counter() - began)
        return results

    def _open(self, by: Opener, row: int, when: float) -> list[CloudEvent]:
        at = timestamp(when)
        if by == "watch":
            self._note_moves(at)
            verdict = self._explain()
            confirmed = verdict is not None and bool(verdict.drifted)
        else:
            verdict = self.verdict
            confirmed = self.watch is not None and bool(self.moved)
        if self.episodes.alarm(by, row, at, confirmed=confirmed) != "opened":
            return []
        self.named = features = moved_columns(self.watch, verdict, self.spending, self.recent())
        episode = self.episodes.current
        if episode is not None:
            # What the watch is sure of in the order in which it was; else what the test names.
            first = [Moved(*key, time=since) for key, since in self.moved.items()]
            episode.first = first or [Moved(f["name"], f["aspect"], at) for f in features]
        last = self.last if self.last.rows >= SETTLED else self.recent()
        self.episodes.weigh(self._largest_effect(last))
        event = self._tell("opened", when, f"{by} saw drift", verdict)
        self._mark(when, keep=True)
        return [event]

    def _weigh_and_look(self, row: int, when: float, sketch: Sketch) -> list[CloudEvent]:
        """Escalates or resolves an open episode."""
        told = []
        episode = self.episodes.current
        if episode is not None and self.episodes.open and self.watch is not None:
            known = {(m.name, m.aspect) for m in episode.first}
            new = [Moved(*k, time=since) for k, since in self.moved.items() if k not in known]
            episode.first += new[: 50 - len(episode.first)]
            now = {c["name"]: c for c in self._moved_now()}
            self.named += [
                c for name, c in now.items() if name not in {n["name"] for n in self.named}
            ]
        if self.episodes.weigh(self._largest_effect(sketch)) == "escalated":
            told.append(self._tell("escalated", when, "its effect is major now"))
        if self.episodes.look(row, timestamp(when)) == "resolved":
            told.append(self._tell("resolved", when, "no drift for long enough"))
            self.moved.clear()
            if self.watch is not None:
                self.watch.restart()
        return told

    def _tell(
        self, transition: Transition, when: float, reason: str, verdict: Verdict | None = None
    ) -> CloudEvent:
        episode = self.episodes.current
        assert episode is not None  # noqa: S101 - transitions are an episode's
        verdict = verdict or self.verdict
        start = min(parse_time(episode.onset), when)
        if transition == "resolved":
            start = min(parse_time(episode.opened), when)
        number, rows = self.windows + 1, self.row - episode.opened_row
        if transition == "opened":
            rows = episode.opened_row - episode.onset_row
            if episode.opened_by == "windows" and verdict is not None:
                number = verdict.window
        span = Span(number, rows, start, when)
        watch = self.watch
        evidence = None
        if watch is not None:
            evidence = Evidence(nats(watch.evidence), watch.threshold, watch.average_run_length)
        return self.events.drift(
            transition,
            episode,
            span,
            detectors={
                "watch": watch.name if watch else None,
                "windows": self.detector.name if self.detector else None,
            },
            evidence=evidence,
            features=self.named,
            verdict=verdict,
            sequence=self._next_sequence(),
            reason=reason,
        )

    def _explain(self) -> Verdict | None:
        """Tests the newest rows, up to a window, because the watch has raised an alarm."""
        if self.detector is None:
            return None
        pending, last = self.tumbler.recent(), self._last_window
        rows = pending.rows if pending is not None else None
        if last is not None and (rows is None or len(rows) < len(last.rows) // 2):
            rows = last.rows
        if rows is None:
            return None
        results = self._results(rows, self.detector)
        return self.spending.explain(results) if results else None

    def _moved_now(self) -> list[dict[str, Any]]:
        """What is significant since the watch began anew, with its size in the recent rows."""
        found = moved_columns(self.watch, self.verdict, self.spending, self.recent())
        limit = {name for name, _ in self.moved}
        limit |= {name for name, _ in self.verdict.drifted} if self.verdict else set()
        return [column for column in found if column["name"] in limit]

    def recent(self) -> Sketch:
        """The last whole window and the one that is being filled."""
        both = Sketch(self.current.grid)
        both.merge(self.last)
        both.merge(self.current)
        return both

    def _note_moves(self, when: str) -> None:
        if self.watch is None:
            return
        for finding in self.watch.findings(certainty(self.watch)):
            self.moved.setdefault((finding.column, finding.aspect), when)

    def _largest_effect(self, sketch: Sketch) -> float:
        """The largest population stability index of what moved, less what chance adds to it."""
        if not self.episodes.open or sketch.rows < SETTLED:
            return 0.0
        names = {name for name, _ in self.moved}
        if self.verdict is not None:
            names |= {name for name, _ in self.verdict.drifted}
        groups = 12
        chance = groups * (1 / sketch.rows + 1 / max(len(self.known.reference), 1))
        return max((sketch.psi(name) - chance for name in names), default=0.0)

    def _mark(self, when: float, *, keep: bool) -> None:
        """An entry of the timeline; without `keep` at most one a second: findings are dear."""
        now = self._clock()
        if not keep and now - self._marked < 1.0:
            return
        self._marked = now
        self.timeline.add(timeline_entry(self.watch, self.episodes, self.row, when), keep=keep)


def window_length(known: Introduction, settings: Settings) -> tuple[int | None, float | None]:
    """(rows, None) or (None, seconds) of a window."""
    if settings.window_rows:
        return settings.window_rows, None
    if settings.window_seconds:
        return None, settings.window_seconds
    windows = known.config.windows
    if windows is None or (windows.size is None and windows.seconds is None):
        return WINDOW, None
    return windows.size, windows.seconds
