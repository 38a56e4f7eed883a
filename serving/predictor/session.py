"""A bundle's model behind a time budget: run at once where that is cheap, else in shared batches.

Which of the two is decided by what the model was measured to cost at start:

* A run that takes less than a hand-over to another thread is worth happens in the caller's thread.
  Should it take longer after all, the guard stops it, and it starts again in a worker.
* Everything else waits in one bounded queue. A worker that is free takes all that is waiting as one
  batch, so nobody waits for a batch to fill. Members of a batch that fails run again one by one.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from serving.errors import (
    InferenceFailed,
    InferenceTimeout,
    Overloaded,
    SeatrialError,
)
from serving.predictor.graph import Graph, Scores
from serving.predictor.lanes import Guard, Lane
from serving.predictor.metrics import BATCH_ROWS, QUEUE_SECONDS, Metrics
from serving.predictor.rows import Rows, join

# More than a pod has cores: a few graphs that are stuck until their budget leave room for others.
WORKERS = 8
# A run expected to take less than this may keep its caller's event loop from other work.
DIRECT_SECONDS = 0.002
# The same for a run that requests share.
TOGETHER_SECONDS = 0.005
# What a row must save in a shared run for sharing to be worth the copying.
SHARING_SECONDS = 0.00003
# A run from which on requests that came at once are counted, and refused beyond the queue's limit.
CROWDING_SECONDS = 0.0003
# What a direct run or a batch may take before it is broken off and its rows run elsewhere, alone.
ISOLATE_SECONDS = 0.02
# Runs stay out of the callers' threads for so long after one was broken off there.
WARY_SECONDS = 1.0


class ClientGoneError(SeatrialError):
    """Nobody waits for the answer any more; HTTP 499, gRPC CANCELLED."""

    http_status = 499
    grpc_status = "CANCELLED"


class CallerTimeout(InferenceTimeout):
    """The caller's own deadline passed, and not the model's budget."""


@dataclass(eq=False, slots=True)
class _Job:
    rows: Rows
    deadline: float
    """On the clock of perf_counter, as `queued`."""
    gone: Callable[[], bool]
    queued: float
    settle: Callable[[Scores | Exception], None]
    done: bool = False
    """Nobody waits for it any more."""
    alone: bool = False
    """It has no place in a batch: one with it in was broken off."""


class ModelSession:
    """Scores rows. Safe for any number of concurrent callers."""

    def __init__(
        self,
        graph: Graph,
        budget_seconds: float,
        metrics: Metrics,
        *,
        max_batch_rows: int = 1024,
        max_queue: int = 256,
    ) -> None:
        self.bundle = graph.bundle
        self.budget_seconds = budget_seconds
        self._graph = graph
        self._metrics = metrics
        self._max_batch_rows = max_batch_rows
        self._max_queue = max_queue
        self._guard = Guard(self._tick)
        self._own = threading.local()
        self._queue: deque[_Job] = deque()
        self._change = threading.Condition()
        self._lanes: list[Lane] = []
        self._idle = 0
        self._wary_until = 0.0
        # Seconds of a run of one row, and of each more; until measured, nothing is cheap.
        self._base, self._per_row = 1.0, 0.0

    def expect(self, base: float, per_row: float) -> None:
        """What was measured: seconds of a run of one row, and of each more."""
        self._base, self._per_row = base, per_row

    def run_watched(self, rows: Rows) -> Scores:
        """A run in the caller's thread, however long, within the budget. Raises InferenceFailed."""
        scores = self._run_here(rows, perf_counter() + self.budget_seconds)
        if scores is None:
            raise self._over(self.budget_seconds)
        return scores

    def seconds_for(self, rows: int) -> float:
        """What a run of so many rows should take."""
        return self._base + self._per_row * (rows - 1)

    @property
    def gathering_pays(self) -> bool:
        """Whether requests that came together should be looked at together.

        For rows that are cheaper together; and for runs so long that a crowd must be refused in
        part, although each run is short enough for the callers' threads.
        """
        if self._base > DIRECT_SECONDS:
            return False
        shared = self._max_batch_rows > 1 and self._base - self._per_row >= SHARING_SECONDS
        return shared or self._base >= CROWDING_SECONDS

    def chunks(self, counts: Sequence[int]) -> Iterator[list[int]]:
        """Positions of requests with so many rows each, in groups for one run each."""
        chunk: list[int] = []
        rows = 0
        for at, count in enumerate(counts):
            over = rows + count > self._max_batch_rows
            if chunk and (over or self.seconds_for(rows + count) > TOGETHER_SECONDS):
                yield chunk
                chunk, rows = [], 0
            if count:
                chunk.append(at)
                rows += count
        if chunk:
            yield chunk

    def takes_directly(self, rows: int, at_most: float | None = None) -> bool:
        """Whether `run_direct` is for so many rows now."""
        allowed = DIRECT_SECONDS if at_most is None else at_most
        return (
            self._base + self._per_row * rows <= allowed
            and not self._queue
            and perf_counter() >= self._wary_until
        )

    def run_direct(self, rows: Rows, at_most: float | None = None) -> Scores | None:
        """Scores at once in the caller's thread; None when that is no place for these rows.

        It is for runs that should take `at_most` seconds. Raises InferenceFailed.
        """
        if not self.takes_directly(rows.count, at_most):
            return None
        scores = self._run_here(rows, perf_counter() + ISOLATE_SECONDS)
        if scores is None:
            self._wary_until = perf_counter() + WARY_SECONDS
        else:
            self._metrics.observe("seatrial_batch_rows", BATCH_ROWS, rows.count)
        return scores

    async def run(self, rows: Rows, seconds: float | None, gone: Callable[[], bool]) -> Scores:
        """Scores through the queue, for callers on an event loop.

        `seconds` bounds what the budget leaves. Raises InferenceTimeout after that, which includes
        waiting, Overloaded, ClientGoneError, and InferenceFailed when the graph fails.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Scores] = loop.create_future()

        def settle(result: Scores | Exception) -> None:
            if answer.done():
                return
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        def settle_from_worker(result: Scores | Exception) -> None:
            with contextlib.suppress(RuntimeError):  # the loop closed while the graph ran
                loop.call_soon_threadsafe(settle, result)

        limit = self._limit(seconds)
        job = self._submit(rows, limit, gone, settle_from_worker)
        clock = loop.call_later(limit, settle, self._over(limit))
        try:
            return await answer
        finally:
            clock.cancel()
            job.done = True

    def run_blocking(self, rows: Rows, seconds: float | None, gone: Callable[[], bool]) -> Scores:
        """As `run`, for callers in a thread of their own."""
        answer: Future[Scores] = Future()

        def settle(result: Scores | Exception) -> None:
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        limit = self._limit(seconds)
        job = self._submit(rows, limit, gone, settle)
        try:
            return answer.result(limit)
        except TimeoutError:
            raise self._over(limit) from None
        finally:
            job.done = True

    def terminate_all(self) -> None:
        """Stops every run in progress and waiting; their callers get InferenceTimeout."""
        with self._change:
            waiting, self._queue = list(self._queue), deque()
        for job in waiting:
            job.settle(InferenceTimeout("the model was stopped: the predictor is going away"))
        now = perf_counter()
        for lane in self._lanes:
            lane.limit = min(lane.limit, now)
        self._guard.stop_all()
        self.budget_seconds = min(self.budget_seconds, 0.1)

    def _limit(self, seconds: float | None) -> float:
        return self.budget_seconds if seconds is None else min(seconds, self.budget_seconds)

    def _over(self, seconds: float) -> InferenceTimeout:
        if seconds < self.budget_seconds:
            return CallerTimeout(f"the model had no answer within the caller's {seconds:.3g} s")
        return InferenceTimeout(f"the model was stopped at its budget of {seconds:g} s")

    def _run_here(self, rows: Rows, limit: float) -> Scores | None:
        """A run in this thread's own lane; None when it was stopped at `limit`."""
        lane: Lane | None = getattr(self._own, "lane", None)
        if lane is None:
            lane = self._own.lane = self._guard.lane()
        return self._run_in(lane, rows, limit)

    def _run_in(self, lane: Lane, rows: Rows, limit: float) -> Scores | None:
        self._guard.enter(lane, limit)
        try:
            scores = self._graph.run(rows, lane)
        except InferenceFailed:
            if lane.leave():
                return None
            raise
        lane.leave()
        return scores

    def _submit(
        self,
        rows: Rows,
        seconds: float,
        gone: Callable[[], bool],
        settle: Callable[[Scores | Exception], None],
    ) -> _Job:
        now = perf_counter()
        job = _Job(rows, now + seconds, gone, now, settle)
        with self._change:
            if len(self._queue) >= self._max_queue:
                raise Overloaded(
                    f"{self._max_queue} requests wait for the model already; send it again later"
                )
            self._queue.append(job)
            if not self._lanes:
                self._start_worker()
            self._change.notify()
        return job

    def _start_worker(self) -> None:
        lane = self._guard.lane()
        self._lanes.append(lane)
        # Daemons: a kernel that ignores the terminate flag must not hold the process.
        threading.Thread(
            target=self._work, args=(lane,), name=f"run-{len(self._lanes)}", daemon=True
        ).start()

    def _tick(self) -> None:
        """On the guard's thread, while the model is in use."""
        self._metrics.flush()
        self._add_worker_if_stuck()

    def _add_worker_if_stuck(self) -> None:
        """Rows must not wait for a graph that loops on others."""
        if not self._queue or self._idle or len(self._lanes) >= WORKERS:
            return
        slow = max(ISOLATE_SECONDS, 10 * self.seconds_for(self._max_batch_rows))
        if all(self._guard.stuck(lane, slow) for lane in self._lanes):
            with self._change:
                self._start_worker()

    def _work(self, lane: Lane) -> None:
        while True:
            with self._change:
                while not self._queue:
                    self._idle += 1
                    self._change.wait()
                    self._idle -= 1
                batch = self._take()
            if batch:
                self._run_batch(lane, batch)

    def _take(self) -> list[_Job]:
        """What to run next, as much as fits into one batch."""
        batch: list[_Job] = []
        rows = 0
        now = perf_counter()
        while self._queue:
            job = self._queue[0]
            if job.done or now >= job.deadline:
                self._queue.popleft()
                self._metrics.add("seatrial_dropped_requests", "late")
                continue
            if batch and (job.alone or rows + job.rows.count > self._max_batch_rows):
                break
            self._queue.popleft()
            if job.gone():
                self._metrics.add("seatrial_dropped_requests", "gone")
                job.settle(ClientGoneError("the client left before its rows were run"))
                continue
            batch.append(job)
            rows += job.rows.count
            if job.alone:
                break
        for job in batch:
            self._metrics.observe("seatrial_queue_seconds", QUEUE_SECONDS, now - job.queued)
        return batch

    def _run_batch(self, lane: Lane, batch: list[_Job]) -> None:
        rows = join([job.rows for job in batch])
        limit = min(job.deadline for job in batch)
        if len(batch) > 1:
            expected = self.seconds_for(rows.count)
            limit = min(limit, perf_counter() + max(ISOLATE_SECONDS, 10 * expected))
        self._metrics.observe("seatrial_batch_rows", BATCH_ROWS, rows.count)
        result: Scores | Exception | None
        try:
            result = self._run_in(lane, rows, limit)
        except Exception as error:
            result = error
        if len(batch) > 1 and not isinstance(result, np.ndarray):
            with self._change:
                for job in reversed(batch):
                    job.alone = True
                    self._queue.appendleft(job)
                self._change.notify(len(batch))
            return
        if result is None:
            result = self._over(self.budget_seconds)
        if isinstance(result, Exception):
            for job in batch:
                job.settle(result)
            return
        at = 0
        for job in batch:
            job.settle(result[at : at + job.rows.count])
            at += job.rows.count
