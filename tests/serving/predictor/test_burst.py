"""Ten times what it can do: everybody is answered or refused, and soon it is as before."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import orjson
import psutil

from benchmarks.serving.processes import Load
from tests.serving.predictor.servers import MODEL, ROW, serve
from tests.serving.predictor.slow import slow_bundle

ROUNDS = 24_000
"""Some 10 ms a run, and --max_batch_rows=1 lets nobody share one."""
QUEUE = 16
SECONDS = 1.5


def test_a_burst_meets_answers_and_refusals_and_leaves_nothing_behind(tmp_path: Path) -> None:
    log = tmp_path / "log"
    flags = ["--max_batch_rows=1", f"--max_queue={QUEUE}"]
    bundle = slow_bundle(tmp_path, ROUNDS)
    flood = Load(tmp_path / "flood.log", "flood")
    try:
        with serve(bundle.path, log, *flags) as server:
            start = time.monotonic()
            for _ in range(10):
                assert server.v1(ROW).code == 200
            each = (time.monotonic() - start) / 10
            body = base64.b64encode(orjson.dumps({"instances": [ROW]})).decode()
            path = f"/v1/models/{MODEL}:predict"
            job = {"port": server.http_port, "path": path, "json_size": None, "body": body}
            job |= {"rate": 10 / each, "seconds": SECONDS}
            flood.run({**job, "seconds": 0.5})
            memory = psutil.Process(server.process.pid).memory_info().rss
            found = flood.run(job)
            assert set(found["statuses"]) == {"200", "503"}, found
            assert found["statuses"]["503"] > found["statuses"]["200"]
            assert found["max_ms"] < 5000
            end = time.monotonic() + 5
            while True:
                start = time.monotonic()
                assert server.v1(ROW).code == 200
                if time.monotonic() - start < 3 * each:
                    break
                assert time.monotonic() < end
            assert psutil.Process(server.process.pid).memory_info().rss - memory < 32 * 2**20
            assert server.metric("seatrial_in_flight") == 0
    finally:
        flood.stop()
