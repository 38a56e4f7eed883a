"""One line per event on stderr, none per request."""

from __future__ import annotations

import logging
import warnings


def log_to_stderr() -> None:
    """For our own lines; before anything else, so that a refusal is shown."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    root = logging.getLogger("seatrial")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    root.propagate = False


def quieten_kserve() -> None:
    """KServe and uvicorn log every request at INFO: 16 % of a small request's time.

    Errors that KServe answers on purpose, such as 404, keep a line and lose their traceback.
    """
    for name in ("kserve", "kserve.trace", "uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("kserve").addFilter(_shorten)
    # KServe's choice of response class; nothing its users can act on.
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")


def _shorten(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and (
        type(error).__module__ == "kserve.errors" or isinstance(error, NotImplementedError)
    ):
        record.msg, record.args = f"{type(error).__name__}: {error}", ()
        record.exc_info = None
    return True
