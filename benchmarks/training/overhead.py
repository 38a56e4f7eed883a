"""What the local pipeline adds to its core functions.

    python -m benchmarks.training.overhead --write

Both go from the same simulated table to a bundle, in turns. Directly, one process calls the core
function of each step, and fit_drift runs in its own environment as it must. Through the pipeline
each step is a process of its own under kfp.local. The bar is 20 s.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipelines.local import interpreters, run_train
from seatrial import simulator

BAR_SECONDS = 20.0
DIRECTLY = """
import subprocess, sys
from pathlib import Path
from components.bundle.core import run as bundle
from components.evaluate.core import run as evaluate
from components.export.core import run as export
from components.ingest.core import run as ingest
from components.train.core import run as train
from components.validate.core import run as validate
from serving.bundle import load_contract
table, contract, work, drift_python = (Path(argument) for argument in sys.argv[1:])
known = load_contract(contract)
ingest(source=table, contract=known, table=work / "table")
validate(table=work / "table", contract=known, checked=work / "checked")
train(checked=work / "checked", network=work / "network")
export(checked=work / "checked", network=work / "network", model=work / "model")
evaluate(checked=work / "checked", model=work / "model", evaluation=work / "evaluation",
         scored=work / "scored.npz")
subprocess.run([drift_python, "-m", "components.fit_drift", "--data", work / "scored.npz",
                "--contract", contract, "--drift", work / "drift"], check=True)
bundle(checked=work / "checked", network=work / "network", model=work / "model",
       evaluation=work / "evaluation", drift=work / "drift", out=str(work / "bundles"))
"""


def directly(table: Path, contract: Path, work: Path) -> None:
    arguments = map(str, (table, contract, work, interpreters()["seatrial/drift"]))
    command = [sys.executable, "-c", DIRECTLY, *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def by_pipeline(table: Path, contract: Path, work: Path) -> None:
    run_train(table, contract, work / "bundles", work=work)


def seconds(rounds: int, settings: simulator.SimulatorSettings) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"directly": [], "by pipeline": []}
    with tempfile.TemporaryDirectory(prefix="seatrial-bench-") as name:
        table, contract = simulator.write(Path(name) / "data", settings)
        for number in range(rounds):
            for way, go in (("directly", directly), ("by pipeline", by_pipeline)):
                work = Path(name) / f"{way}-{number}"
                work.mkdir()
                began = time.perf_counter()
                go(table, contract, work)
                found[way].append(time.perf_counter() - began)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--customers", type=int, default=800)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--write", action="store_true", help="write overhead.md beside this file")
    given = parser.parse_args()
    settings = simulator.SimulatorSettings(customers=given.customers, days=given.days)
    found = seconds(given.rounds, settings)
    pairs = zip(found["by pipeline"], found["directly"], strict=True)
    more = [pipeline - direct for pipeline, direct in pairs]
    lines = [
        "# The local pipeline beside its core functions",
        "",
        (
            f"`python -m benchmarks.training.overhead {' '.join(sys.argv[1:])}`: {given.customers}"
            f" simulated customers over {given.days} days, from table to bundle;"
            f" {given.rounds} rounds in turns. Seconds: median (lowest to highest)."
        ),
        "",
        "| directly | by pipeline | more | |",
        "|---|---|---|---|",
        (
            f"| {_shown(found['directly'])} | {_shown(found['by pipeline'])} | {_shown(more)} |"
            f" {'met' if max(more) < BAR_SECONDS else '**missed**'}: under {BAR_SECONDS:g} s |"
        ),
    ]
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if given.write:
        Path(__file__).with_name("overhead.md").write_text(text)


def _shown(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
