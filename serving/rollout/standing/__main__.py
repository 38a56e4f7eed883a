"""python -m serving.rollout.standing: waits for canaries and leads them, until SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time

from serving.first_process import end_on_sigterm

if __name__ == "__main__":
    end_on_sigterm()

from prometheus_client import start_http_server

from serving.errors import SeatrialError
from serving.rollout.standing.gate import StandingGate
from serving.rollout.standing.metrics import Metrics
from serving.rollout.standing.settings import read_settings

logger = logging.getLogger("seatrial.gate")


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # The lease is given back on the way out, so that the next gate need not wait for it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        settings = read_settings(sys.argv[1:], os.environ)
        metrics = Metrics()
        host = os.environ.get("SEATRIAL_HOST", "0.0.0.0")  # noqa: S104
        start_http_server(settings.port, addr=host, registry=metrics.registry)
    except SeatrialError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"error: port {settings.port}: {error.strerror}; give another --port\n")
        return 1
    gate = StandingGate(settings, metrics, tell=logger.info)
    said = ""
    while True:
        try:
            came = gate.turn()
        except SeatrialError as error:
            metrics.failed()
            came = f"error: {error}"
        metrics.waiting(time.time())
        # Hours of waiting are one line.
        if came != said:
            logger.info("%s", came)
            said = came
        time.sleep(settings.every_seconds)


if __name__ == "__main__":
    raise SystemExit(main())
