"""`python -m serving.predictor`: verifies a bundle, then serves it.

Exit codes: 0 stopped by a signal, 1 the bundle or an address is refused, 2 bad settings.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from serving.bundle import open_bundle
from serving.errors import SeatrialError, UsageError
from serving.predictor.logs import log_to_stderr, quieten_kserve
from serving.predictor.settings import Settings, help_text, read_settings

logger = logging.getLogger("seatrial.predictor")


def main(argv: Sequence[str]) -> int:
    log_to_stderr()
    try:
        if {"-h", "--help"} & set(argv):
            _help()
            return 0
        settings, rest = read_settings(argv, os.environ)
        _check_kserve_flags(rest)
        serve(settings)
    except SeatrialError as error:
        logger.error("%s", error)  # one line: the reason is all there is to say
        return error.exit_code
    return 0


def serve(settings: Settings) -> None:
    """Serves until a signal. Raises SeatrialError when the bundle or an address is refused."""
    # KServe's imports take seconds; settings and digests are refused without them.
    bundle = open_bundle(settings.model_dir)
    from serving.predictor.metrics import Metrics  # noqa: PLC0415
    from serving.predictor.model import BundleModel  # noqa: PLC0415
    from serving.predictor.server import PredictorServer  # noqa: PLC0415
    from serving.predictor.session import ModelSession  # noqa: PLC0415
    from serving.predictor.tee import Tee  # noqa: PLC0415

    session = ModelSession(bundle, settings.predict_timeout_seconds)
    session.verify_golden_rows()
    metrics = Metrics(settings.model_name, bundle.digest, settings.arm)
    tee = None
    if settings.tee_url:
        tee = Tee(settings.tee_url, bundle, settings.model_name, settings.arm, metrics)
    model = BundleModel(settings.model_name, session, metrics, tee)
    model.ready = True
    server = PredictorServer(settings, model, tee)
    quieten_kserve()
    server.start()


def _check_kserve_flags(rest: Sequence[str]) -> None:
    from kserve.model_server import parser  # noqa: PLC0415

    known, unknown = parser.parse_known_args(list(rest))
    if unknown:
        raise UsageError(f"'{unknown[0]}' is no flag of the predictor; --help lists them")
    if known.workers != 1:
        raise UsageError(f"--workers: '{known.workers}': one process serves a bundle, give 1")


def _help() -> None:
    from kserve.model_server import parser  # noqa: PLC0415

    sys.stdout.write(help_text())
    sys.stdout.write("\nKServe's model server takes these too:\n")
    sys.stdout.write(parser.format_help().partition("\n\n")[2])


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # A kernel that ignores the terminate flag would keep the interpreter from ending.
    os._exit(code)
