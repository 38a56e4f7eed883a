"""python -m serving.deadletters: appends each CloudEvent to a file, until SIGTERM."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from serving.first_process import end_on_sigterm

if __name__ == "__main__":
    end_on_sigterm()

from aiohttp import web

from serving.local.sink import Sink

logger = logging.getLogger("seatrial.deadletters")


def build_app(file: Path) -> web.Application:
    """POST / takes an event, GET /healthz says how many are kept."""
    sink = Sink(file)

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"events": sink.count})

    app = sink.app()
    app.router.add_get("/healthz", healthz)
    return app


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m serving.deadletters", description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="port of POST / and GET /healthz")
    parser.add_argument("--file", type=Path, required=True, help="gets one JSON line per event")
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if not asked.file.parent.is_dir():
        sys.stderr.write(f"error: {asked.file.parent} is no folder; mount a volume there\n")
        return 2
    host = os.environ.get("SEATRIAL_HOST", "0.0.0.0")  # noqa: S104
    logger.info("listening on %s:%d", host, asked.port)
    web.run_app(build_app(asked.file), host=host, port=asked.port, print=None, access_log=None)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
