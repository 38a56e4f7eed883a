"""The counters say exactly what the client sent and got."""

from __future__ import annotations

from pathlib import Path

from tests.serving.predictor.servers import ROW, grpc_request, serve
from tests.support.faults import ABOVE, faulty_bundle

ARM = "isvc.tiny-v1-predictor"


def test_counters_match_what_the_client_sent(tmp_path: Path) -> None:
    faulty = faulty_bundle(tmp_path, "fail")
    rare = {**ROW, "visits": ABOVE + 1}
    bad = {**ROW, "amount": -1.0}
    decisions = {"approve": 0, "review": 0, "decline": 0}
    with serve(faulty.path, tmp_path / "log", env={"SEATRIAL_ARM": ARM}) as server:
        for rows in (1, 2, 3):
            for prediction in server.v1(*[ROW] * rows).body["predictions"]:
                decisions[prediction["decision"]] += 1
        for _ in range(4):
            server.v2({name: [value] for name, value in bad.items()})
        server.v2({name: [value] * 7 for name, value in {**ROW, "amount": 9000.0}.items()})
        decisions["decline"] += 7
        for row in (ROW, rare, rare, bad):
            server.grpc(grpc_request({name: [value] for name, value in row.items()}))
        decisions["review"] += 1
        labels = {"model": "tiny", "bundle": faulty.digest[:12], "arm": ARM}
        counted = {
            (wire, code): server.metric("seatrial_requests_total", wire=wire, code=code, **labels)
            for wire, code in [
                ("v1", "200"),
                ("v2", "400"),
                ("v2", "200"),
                ("grpc", "OK"),
                ("grpc", "INTERNAL"),
                ("grpc", "INVALID_ARGUMENT"),
            ]
        }
        assert list(counted.values()) == [3, 4, 1, 1, 2, 1]
        assert server.metric("seatrial_requests_total") == 12
        assert server.metric("seatrial_request_seconds_count", **labels) == 12
        assert server.metric("seatrial_scores_count", **labels) == 14
        assert server.metric("seatrial_scores_bucket", le="+Inf", **labels) == 14
        for le in ("0.001", "0.25", "5.0", "+Inf"):
            assert 0 <= server.metric("seatrial_request_seconds_bucket", le=le, **labels) <= 12
        assert server.metric("seatrial_rejected_rows_total", reason="below", **labels) == 5
        assert server.metric("seatrial_in_flight", **labels) == 0
        assert server.metric("seatrial_rows_total", **labels) == 6 + 7 + 1
        for name, count in decisions.items():
            assert server.metric("seatrial_decisions_total", decision=name, **labels) == count
        assert server.metric("seatrial_bundle_info", digest=faulty.digest, **labels) == 1
        assert server.metric("seatrial_ready", **labels) == 1
        assert server.metric("seatrial_tee_dropped_rows_total") == 0
