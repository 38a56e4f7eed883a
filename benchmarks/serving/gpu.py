"""`python -m benchmarks.serving.gpu`: from how many rows on a GPU wins.

The 30→1024→1024→512→1 model through the predictor's own Graph on CUDA and on the CPU, and the same
network in torch (eager) on the same GPU; host arrays in, host scores out. It runs anywhere and says
what it had to skip.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import onnx
import onnxruntime
from onnx import numpy_helper

from benchmarks.serving import models
from serving.bundle import Bundle
from serving.predictor.graph import Graph
from serving.predictor.hardware import CPU, PROVIDERS
from serving.predictor.lanes import Guard
from serving.predictor.rows import Rows

BATCHES = (1, 32, 1024, 16384)
_WARM_UP = 3
_LEAST_RUNS = 5
_MOST_RUNS = 2000

Run = Callable[[Any], Any]


def contenders(bundle: Bundle) -> tuple[dict[str, Run], list[str]]:
    """What can be measured here by name, and a sentence for each thing that cannot."""
    found: dict[str, Run] = {"cpu": _graph(bundle, CPU)}
    skipped = []
    cuda = PROVIDERS["cuda"]
    if cuda not in onnxruntime.get_available_providers():
        skipped.append(f"cuda: ONNX Runtime was built without {cuda}; install onnxruntime-gpu")
    else:
        graph = Graph(bundle, [cuda, CPU], 1)
        if graph.providers[0] == cuda:
            found["cuda"] = _graph(bundle, cuda, CPU)
        else:
            skipped.append(f"cuda: ONNX Runtime fell back to {graph.providers[0]}; is there a GPU?")
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        skipped.append("torch: it is not installed")
    else:
        if torch.cuda.is_available():
            found["torch"] = _torch(torch)
        else:
            skipped.append("torch: it sees no CUDA device")
    return found, skipped


def _graph(bundle: Bundle, *providers: str) -> Run:
    graph = Graph(bundle, list(providers), 1)
    lane = Guard(lambda: None).lane()
    return lambda data: graph.run(Rows(models.FEATURES, len(data), matrix=data), lane)


def _torch(torch: Any) -> Run:
    graph = onnx.load_from_string(models.plain_model(models.LARGE)).graph
    arrays = {each.name: numpy_helper.to_array(each).copy() for each in graph.initializer}
    layers = [
        (
            torch.from_numpy(arrays[f"w{at}"]).to("cuda"),
            torch.from_numpy(arrays[f"b{at}"]).to("cuda"),
        )
        for at in range(len(models.LARGE) - 1)
    ]

    def run(data: Any) -> Any:
        with torch.inference_mode():
            x = torch.from_numpy(data).to("cuda")
            for weights, bias in layers[:-1]:
                x = torch.relu(x @ weights + bias)
            return torch.sigmoid(x @ layers[-1][0] + layers[-1][1]).reshape(-1).cpu().numpy()

    return run


def measure(seconds: float, folder: Path) -> dict[str, Any]:
    """{"cells": [{"what", "rows", "ms"}], "skipped": [...], "wins_from": rows or None}."""
    runs, skipped = contenders(models.bundle(folder, models.LARGE))
    cells: list[dict[str, Any]] = []
    for rows in BATCHES:
        data = models.sample(rows)
        expected = runs["cpu"](data)
        for what, run in runs.items():
            off = float(abs(run(data) - expected).max())
            if off > 1e-3:
                raise RuntimeError(f"{what}: a score of {rows} rows is off by {off:.3g}")
            cells.append({"what": what, "rows": rows, "ms": _median_ms(run, data, seconds)})
    times = {(cell["what"], cell["rows"]): cell["ms"] for cell in cells}
    won = [n for n in BATCHES if ("cuda", n) in times and times["cuda", n] < times["cpu", n]]
    return {"cells": cells, "skipped": skipped, "wins_from": min(won, default=None)}


def _median_ms(run: Run, data: Any, seconds: float) -> float:
    for _ in range(_WARM_UP):
        run(data)
    times: list[float] = []
    end = perf_counter() + seconds
    while len(times) < _LEAST_RUNS or (perf_counter() < end and len(times) < _MOST_RUNS):
        start = perf_counter()
        run(data)
        times.append(perf_counter() - start)
    return 1000 * statistics.median(times)


def table(results: dict[str, Any]) -> str:
    found = results["gpu"]
    times = {(cell["what"], cell["rows"]): cell["ms"] for cell in found["cells"]}
    names = {"cpu": "CPU, 1 thread", "cuda": "CUDA", "torch": "torch eager"}
    lines = [
        "# Where a GPU wins",
        "",
        (
            f"`{results['command']}`: ONNX Runtime {results['onnxruntime']}, the"
            " 30→1024→1024→512→1 model, median ms a batch from host arrays to host scores."
        ),
        "",
        "| rows | " + " | ".join(names.values()) + " |",
        "|---|" + "---|" * len(names),
    ]
    for rows in BATCHES:
        shown = [f"{times[what, rows]:.3f}" if (what, rows) in times else "–" for what in names]
        lines.append(f"| {rows:,} | " + " | ".join(shown) + " |")
    lines.append("")
    lines += [f"Skipped: {sentence}." for sentence in found["skipped"]]
    if "cuda" in {cell["what"] for cell in found["cells"]}:
        wins = found["wins_from"]
        lines.append(f"CUDA wins from {wins:,} rows." if wins else "CUDA wins at no size here.")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.gpu", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--write", action="store_true", help="replace gpu.json and gpu.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="seatrial-bench-") as folder:
        results = {
            "command": " ".join(["python -m benchmarks.serving.gpu", *sys.argv[1:]]),
            "onnxruntime": onnxruntime.__version__,
            "gpu": measure(args.seconds, Path(folder)),
        }
    text = table(results)
    sys.stdout.write(text)
    if args.write:
        here = Path(__file__).parent
        (here / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")
        (here / "gpu.md").write_text(text)


if __name__ == "__main__":
    main()
