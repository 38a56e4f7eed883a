"""python -m serving.drift: runs the sidecar until SIGTERM, then exits 0."""

from __future__ import annotations

import ctypes
import gc
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

from serving.drift.engine import Engine
from serving.drift.files import claim
from serving.drift.foreign import introduce_foreign
from serving.drift.metrics import Metrics
from serving.drift.outbox import Outbox
from serving.drift.receiver import build_app
from serving.drift.settings import Settings, read_settings
from serving.drift.sink import HttpSink, MemorySink
from serving.errors import SeatrialError

logger = logging.getLogger("seatrial.drift")

M_ARENA_MAX = -8
"""Of glibc's mallopt."""


def main() -> int:
    _share_one_heap()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # uvicorn raises the signal again after its shutdown; that must end in exit code 0.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    try:
        settings = read_settings(sys.argv[1:], os.environ)
        known = introduce_foreign(settings) if settings.bundle else None
        listener = _listen(settings.host, settings.port)
        folder = Path(settings.state_dir) if settings.state_dir else None
        if folder is not None:
            claim(folder)
        outbox = Outbox(folder, settings.outbox_events)
        metrics = Metrics(settings.metric_features)
        sink = (
            HttpSink(settings.sink, outbox, rate=settings.sink_rate)
            if settings.sink
            else MemorySink()
        )
        engine = Engine(settings, sink, metrics, first_sequence=outbox.last)
        metrics.show(engine.status)
        if known is not None:
            engine.introduce(known)
    except SeatrialError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return _serve(settings, listener, engine, sink, metrics)


def _share_one_heap() -> None:
    """glibc gives every thread a heap, and gives back none of the gaps in them: 15 MB in all."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(M_ARENA_MAX, 1)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise SeatrialError(
            f"cannot listen on {host} port {port}: {reason}; give another --port"
        ) from None


def _serve(
    settings: Settings,
    listener: socket.socket,
    engine: Engine,
    sink: HttpSink | MemorySink,
    metrics: Metrics,
) -> int:
    # Parsed JSON makes lists by the thousand and no cycles: looking for those was half the cost.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    engine.start()
    server = uvicorn.Server(
        uvicorn.Config(
            build_app(engine, metrics),
            access_log=False,
            log_level="warning",
            lifespan="off",
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
        engine.close()
        sink.close()
        logging.shutdown()
    return code


if __name__ == "__main__":
    exit_code = main()
    # Daemon threads may be inside C code (an import, a test): leave without unwinding them.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
