"""Rows a second on one core, and memory; `python -m benchmarks.drift.speed` prints them as JSON.

A process of its own, so that memory is the watch's and nothing else's.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time

from benchmarks.drift.ours import COLUMNS
from benchmarks.drift.streams import INDEPENDENT, REFERENCE_ROWS, reference_rng, stream_rng
from serving.drift.sketch import Sketch
from serving.drift.watch import Watch, WatchSettings

BATCH, BATCHES = 8_192, 8
ROUNDS = 15
MILLIONS = 10


def main() -> int:
    reference = INDEPENDENT.rows(REFERENCE_ROWS, reference_rng(1, 0))
    watch = Watch(COLUMNS, reference, WatchSettings())
    sketch = Sketch(watch.grid)
    batches = [INDEPENDENT.rows(BATCH, stream_rng(1, number)) for number in range(BATCHES)]
    rows = BATCH * BATCHES
    speeds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for batch in batches:
            sketch.add_counts(watch.observe(batch).counts)
        speeds.append(rows / (time.process_time() - began))
    small = batches[0][:4000]
    began = time.process_time()
    for row in range(len(small)):
        sketch.add_counts(watch.observe(small[row : row + 1]).counts)
    single = len(small) / (time.process_time() - began)
    first = _resident()
    for _ in range(MILLIONS * 1_000_000 // rows):
        for batch in batches:
            sketch.add_counts(watch.observe(batch).counts)
    told = {
        "rows_per_second": statistics.median(speeds),
        "lowest": min(speeds),
        "highest": max(speeds),
        "single_rows_per_second": single,
        "rss_mb": _resident(),
        "grown_mb": _resident() - first,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "rows": sketch.rows,
        "heavy": sorted({"torch", "transformers", "alibi_detect", "scipy"} & set(sys.modules)),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


def _resident() -> float:
    """MB."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    sys.exit(main())
