"""Latency at the gateway, closed loop: a connection sends its next row when it has an answer."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path
from typing import Any

import pandas as pd
import uvloop

from seatrial.replay.answers import percentiles
from seatrial.replay.rows import Requests, read_rows
from seatrial.replay.wires import Answer, HttpClient
from serving.bundle import load_contract

WARM_UP_SECONDS = 0.5


def measure(
    gateway: str,
    *,
    table: Path,
    contract: Path,
    model: str,
    connections: int = 16,
    seconds: float = 10,
    from_row: int = 0,
) -> dict[str, Any]:
    """The "gateway" block of a run's facts, over HTTP, one row a request.

    The first half second only warms connections up. Raises FileError, ContractError, DataError.
    """
    rules = load_contract(contract)
    requests = Requests(read_rows(table, rules), rules, model)
    client = HttpClient(gateway, model, requests, connections)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answers, elapsed = runner.run(_measured(client, connections, seconds, from_row))
    return gateway_facts(answers, connections, elapsed)


def gateway_facts(answers: list[Answer], connections: int, seconds: float) -> dict[str, Any]:
    """An answer without a score is an error and never under 100 ms."""
    good = [answer.ms for answer in answers if answer.kind == "ok"]
    p50, p99 = percentiles(pd.Series(good, dtype=float))
    return {
        "connections": connections,
        "seconds": round(seconds, 3),
        "requests": len(answers),
        "rate": round(len(answers) / seconds, 1),
        "p50_ms": p50,
        "p99_ms": p99,
        "under_100ms": round(sum(ms < 100 for ms in good) / max(1, len(answers)), 6),
        "errors": len(answers) - len(good),
    }


async def _measured(
    client: HttpClient, connections: int, seconds: float, from_row: int
) -> tuple[list[Answer], float]:
    async with client:
        await _closed_loop(client, connections, WARM_UP_SECONDS, from_row)
        start = time.perf_counter()
        answers = await _closed_loop(client, connections, seconds, from_row)
        return answers, time.perf_counter() - start


async def _closed_loop(
    client: HttpClient, connections: int, seconds: float, from_row: int
) -> list[Answer]:
    numbers = itertools.count(from_row)
    answers: list[Answer] = []
    until = time.perf_counter() + seconds

    async def sender() -> None:
        while time.perf_counter() < until:
            answers.append(await client.send(next(numbers)))

    async with asyncio.TaskGroup() as senders:
        for _ in range(connections):
            senders.create_task(sender())
    return answers
