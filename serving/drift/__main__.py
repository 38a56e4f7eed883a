"""python -m serving.drift: runs the sidecar until SIGTERM, then exits 0."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading

import uvicorn

from serving.drift.alibi import AlibiTabular, import_alibi
from serving.drift.engine import Engine
from serving.drift.introduction import Introduction
from serving.drift.metrics import Metrics
from serving.drift.receiver import build_app
from serving.drift.settings import Settings, read_settings
from serving.drift.sink import HttpSink, MemorySink
from serving.errors import SeatrialError

logger = logging.getLogger("seatrial.drift")


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # uvicorn raises the signal again after its shutdown; that must end in exit code 0.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    try:
        settings = read_settings(sys.argv[1:], os.environ)
        listener = _listen(settings.host, settings.port)
    except SeatrialError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return _serve(settings, listener)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise SeatrialError(
            f"cannot listen on {host} port {port}: {reason}; give another --port"
        ) from None


def _serve(settings: Settings, listener: socket.socket) -> int:
    metrics = Metrics()
    sink = HttpSink(settings.sink) if settings.sink else MemorySink()
    engine = Engine(_build, sink, metrics, settings.ring_rows)
    engine.start()
    # Seconds of work, and no request needs to wait for it.
    threading.Thread(target=_warm_up, name="drift-import", daemon=True).start()
    server = uvicorn.Server(
        uvicorn.Config(
            build_app(engine, metrics, settings.window_rows),
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=2,
        )
    )
    logger.info("listening on %s:%d", settings.host, settings.port)
    code = 0
    try:
        server.run(sockets=[listener])
        code = 0 if server.started else 1
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        sink.close()
        logging.shutdown()
    return code


def _warm_up() -> None:
    try:
        import_alibi()
    except Exception as error:
        logger.error("Alibi Detect cannot be imported: %s", error)


def _build(known: Introduction) -> AlibiTabular:
    return AlibiTabular(known.encoder.columns, known.reference, known.config.window)


if __name__ == "__main__":
    exit_code = main()
    # Daemon threads may be inside C code (an import, a test): leave without unwinding them.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
