"""`python -m serving.local --state DIR`: the supervisor of one state directory."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO

from aiohttp import web

from serving.errors import PlayerError, SeatrialError
from serving.local.control import Control
from serving.local.identity import Identity, identity_of
from serving.local.network import LOOPBACK
from serving.local.sink import Sink
from serving.local.state import EVENTS_FILE, LOCK, SOCKET, STATE_FILE
from serving.local.supervisor import Supervisor

FIRST_ORDER_S = 30.0
"""A supervisor that nobody has told anything ends itself after this time."""

logger = logging.getLogger("seatrial.player")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m serving.local", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="state directory")
    parser.add_argument("--owner", help="pid:start of the process this runs for")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    owner = None
    if arguments.owner:
        pid, start = arguments.owner.split(":")
        owner = Identity(int(pid), int(start))
    folder: Path = arguments.state.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    # Sockets are named relative to here: their whole path might exceed 107 bytes.
    os.chdir(folder)
    with Path(LOCK).open("a") as lock:
        if not take(lock):
            logger.error("another supervisor works in %s", folder)
            return 1
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())  # no thread per child
        try:
            asyncio.run(supervise(folder, owner))
        except SeatrialError as error:
            logger.error("%s", error)
            return error.exit_code
    return 0


def take(lock: IO[str], seconds: float = 1.0) -> bool:
    """Takes the folder's lock; a client that only looks at it holds it for a moment."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True


async def supervise(folder: Path, owner: Identity | None) -> None:
    """Runs until SIGTERM, SIGINT, `down`, or a first apply that failed."""
    me = identity_of(os.getpid())
    if me is None:
        raise PlayerError("/proc does not show this process; the player needs Linux's /proc")
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    sink = Sink(folder / EVENTS_FILE)
    control_socket = Path(SOCKET)
    control_socket.unlink(missing_ok=True)
    async with contextlib.AsyncExitStack() as servers:
        runner = await _serve(servers, sink.app())
        site = web.TCPSite(runner, LOOPBACK, 0)
        await site.start()
        url = f"http://{LOOPBACK}:{runner.addresses[0][1]}/"
        supervisor = Supervisor(folder, me, owner, url, sink)
        control = Control(supervisor, end.set)
        await web.UnixSite(await _serve(servers, control.app()), SOCKET).start()
        control_socket.chmod(0o600)
        loop.call_later(FIRST_ORDER_S, lambda: None if control.asked else end.set())
        watching = asyncio.create_task(supervisor.watch())
        watching.add_done_callback(lambda _: end.set())
        try:
            await end.wait()
        finally:
            await control.cancel()
            failed = watching.done() and not watching.cancelled() and watching.exception()
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await watching
            await supervisor.stop()
            control_socket.unlink(missing_ok=True)
            (folder / STATE_FILE).unlink(missing_ok=True)
        if failed:
            raise failed


async def _serve(servers: contextlib.AsyncExitStack, app: web.Application) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    servers.push_async_callback(runner.cleanup)
    return runner


if __name__ == "__main__":
    sys.exit(main())
