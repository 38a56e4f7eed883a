"""`python -m serving.predictor`: verifies a bundle, then serves it.

Exit codes: 0 stopped by a signal, 1 the bundle or an address is refused, 2 bad settings.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from serving.first_process import end_on_sigterm

if __name__ == "__main__":
    end_on_sigterm()

from serving.bundle import Bundle, open_bundle
from serving.errors import BundleError, SeatrialError, UsageError
from serving.predictor.hardware import CPU, DEVICE_KEY, providers_for, threads_for
from serving.predictor.logs import log_to_stderr, quieten_kserve
from serving.predictor.settings import NO_FALLBACK, Settings, help_text, read_settings
from serving.predictor.workers import Membership, lead, membership

if TYPE_CHECKING:
    from serving.predictor.graph import Graph
    from serving.predictor.metrics import Metrics

logger = logging.getLogger("seatrial.predictor")


def main(argv: Sequence[str]) -> int:
    log_to_stderr()
    try:
        if {"-h", "--help"} & set(argv):
            _help()
            return 0
        settings, rest = read_settings(argv, os.environ)
        _check_kserve_flags(rest)
        group = membership(os.environ)
        if group is None and settings.workers > 1:
            return lead(settings, argv)
        serve(settings, group)
    except SeatrialError as error:
        logger.error("%s", error)  # one line: the reason is all there is to say
        return error.exit_code
    return 0


def serve(settings: Settings, group: Membership | None = None) -> None:
    """Serves until a signal. Raises SeatrialError when the bundle or an address is refused."""
    # KServe's imports take seconds; settings and digests are refused without them.
    bundle = open_bundle(settings.model_dir)
    from serving.predictor.audit import AuditLog  # noqa: PLC0415
    from serving.predictor.cache import Cache  # noqa: PLC0415
    from serving.predictor.exposition import expose  # noqa: PLC0415
    from serving.predictor.metrics import Metrics  # noqa: PLC0415
    from serving.predictor.model import BundleModel  # noqa: PLC0415
    from serving.predictor.rehearsal import rehearse  # noqa: PLC0415
    from serving.predictor.server import PredictorServer  # noqa: PLC0415
    from serving.predictor.session import ModelSession  # noqa: PLC0415
    from serving.predictor.tee import Tee  # noqa: PLC0415

    metrics = Metrics(
        settings.model_name,
        bundle.digest,
        settings.arm,
        worker=group.worker if group else 0,
        workers=settings.workers,
        file=group.board if group else None,
    )
    graph = load_graph(bundle, settings, metrics)
    session = ModelSession(
        graph,
        settings.predict_timeout_seconds,
        metrics,
        max_batch_rows=settings.max_batch_rows,
        max_queue=settings.max_queue,
    )
    rehearse(session)
    expose(metrics, group.leader if group else None)
    copies: list[Tee | AuditLog] = []
    if settings.tee_url:
        copies.append(Tee(settings.tee_url, bundle, settings.model_name, settings.arm, metrics))
    if settings.audit_log:
        copies.append(AuditLog.for_bundle(settings, bundle, metrics))
    cache = Cache(settings.cache_entries, bundle.digest) if settings.cache_entries else None
    model = BundleModel(
        settings.model_name,
        session,
        metrics,
        copies,
        fallback_decision=_fallback(settings, bundle),
        cache=cache,
        audited=bool(settings.audit_log),
    )
    model.ready = True
    server = PredictorServer(settings, model, copies, shared_ports=group is not None)
    quieten_kserve()
    server.start()


def load_graph(bundle: Bundle, settings: Settings, metrics: Metrics) -> Graph:
    """The bundle's graph on the best provider there is. Raises BundleError when that won't do."""
    import onnxruntime  # noqa: PLC0415

    from serving.predictor.graph import Graph  # noqa: PLC0415

    wanted = providers_for(settings.provider_order, onnxruntime.get_available_providers())
    graph = Graph(bundle, wanted, settings.threads or threads_for(settings.workers))
    metrics.provider = graph.providers[0]
    device = graph.metadata(DEVICE_KEY)
    if device and metrics.provider == CPU:
        missing = f"{bundle.path}/model.onnx asks for a GPU and ONNX Runtime has only {CPU}"
        if device == "gpu":
            raise BundleError(f"{missing}; serve it where there is one, or export it for the CPU")
        logger.warning("%s: it runs on the CPU", missing)
        metrics.set("seatrial_gpu_missing", 1)
    return graph


def _fallback(settings: Settings, bundle: Bundle) -> str:
    """The decision for what the model fails on; "" for none."""
    if settings.fallback_decision == NO_FALLBACK:
        return ""
    return settings.fallback_decision or bundle.contract.decision.fallback or ""


def _check_kserve_flags(rest: Sequence[str]) -> None:
    from kserve.model_server import parser  # noqa: PLC0415

    _, unknown = parser.parse_known_args(list(rest))
    if unknown:
        raise UsageError(f"'{unknown[0]}' is no flag of the predictor; --help lists them")


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
