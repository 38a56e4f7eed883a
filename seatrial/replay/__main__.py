"""`python -m seatrial.replay`: load on the gateway, in a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson
import uvloop

from seatrial.replay.load import AnswerFile, LoadResult, LoadSettings, as_json, replay
from seatrial.replay.rows import Requests, read_rows
from seatrial.replay.wires import Client, GrpcClient, HttpClient, Wire
from serving.bundle import load_contract
from serving.errors import SeatrialError
from serving.lifeline import die_with_parent


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one JSON line with the achieved rate. Returns 0 also when answers were errors."""
    given = _parser().parse_args(argv)
    die_with_parent()
    try:
        settings = LoadSettings(
            rate=given.rate,
            connections=given.connections,
            grpc_share=given.grpc_share,
            from_row=given.from_row,
            seconds=given.seconds,
        )
        contract = load_contract(given.contract)
        requests = Requests(read_rows(given.table, contract), contract, given.model)
        out = AnswerFile(given.answers)
    except SeatrialError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(_run(given.gateway, given.model, requests, settings, out))
    finally:
        out.close()
    sys.stdout.write(orjson.dumps(as_json(result)).decode() + "\n")
    return 0


async def _run(
    gateway: str, model: str, requests: Requests, settings: LoadSettings, out: AnswerFile
) -> LoadResult:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # The table and the imports live as long as the process: nothing there to collect.
    gc.collect()
    gc.freeze()
    http = HttpClient(gateway, model, requests, settings.connections)
    if settings.grpc_share == 0:
        async with http:
            return await replay({"http": http}, settings, out, stop)
    async with http, GrpcClient(gateway, requests) as grpc:
        clients: dict[Wire, Client] = {"http": http, "grpc": grpc}
        return await replay(clients, settings, out, stop)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m seatrial.replay", description=__doc__)
    add = parser.add_argument
    add("--table", type=Path, required=True, help="Parquet or CSV file with the rows")
    add("--contract", type=Path, required=True, help="contract of the rows")
    add("--model", required=True, help="model name in the gateway's paths")
    add("--gateway", default="127.0.0.1:8080", help="host:port of HTTP and gRPC")
    add("--rate", type=float, default=320, help="requests a second")
    add("--connections", type=int, default=16, help="most requests in flight")
    add("--grpc-share", type=float, default=0.4, help="share of requests over gRPC")
    add("--answers", type=Path, required=True, help="file to write, one JSON line per answer")
    add("--from-row", type=int, default=0, help="first row to send")
    add("--seconds", type=float, default=None, help="how long; default until SIGTERM")
    return parser


if __name__ == "__main__":
    sys.exit(main())
