"""python -m serving.retrain: receives events until SIGTERM, then exits 0."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from pathlib import Path

from serving.first_process import end_on_sigterm

if __name__ == "__main__":
    end_on_sigterm()

import uvicorn

from serving.errors import SeatrialError
from serving.retrain.dispatcher import Dispatcher
from serving.retrain.journal import Journal
from serving.retrain.launcher import Launcher
from serving.retrain.metrics import Metrics
from serving.retrain.receiver import build_app
from serving.retrain.settings import Settings, read_settings

logger = logging.getLogger("seatrial.retrain")


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # uvicorn raises the signal again after its shutdown; that must end in exit code 0.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    try:
        settings = read_settings(sys.argv[1:], os.environ)
        launcher = settings.build_launcher()
        listener = _listen(settings.host, settings.port)
        journal = Journal(Path(settings.journal))
    except SeatrialError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return serve(settings, launcher, journal, listener)


def serve(settings: Settings, launcher: Launcher, journal: Journal, listener: socket.socket) -> int:
    """Serves until a signal; returns the exit code."""
    metrics = Metrics()
    dispatcher = Dispatcher(
        journal, launcher, settings.rules(), metrics, poll=settings.poll_seconds
    )
    server = uvicorn.Server(
        uvicorn.Config(
            build_app(journal, dispatcher, metrics),
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=2,
        )
    )
    dispatcher.start()
    logger.info("listening on %s:%d", settings.host, settings.port)
    code = 0
    try:
        server.run(sockets=[listener])
        code = 0 if server.started else 1
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        dispatcher.close()
        journal.close()
        logging.shutdown()
    return code


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise SeatrialError(
            f"cannot listen on {host} port {port}: {reason}; give another --port"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
