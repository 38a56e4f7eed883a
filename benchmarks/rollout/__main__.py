"""`python -m benchmarks.rollout`: minutes on one core."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks.rollout.report import Results, checked, write
from benchmarks.rollout.trials import RATES, Row, trials
from benchmarks.rollout.waiting import waiting

# Looks of equal canary requests, then the one look a minute of the simulation.
LOOKS = ((2, 60.0), (20, 6.0), (200, 1.0), (20, 60.0), (200, 60.0))


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.rollout", description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="runs a cell (default 2000)")
    parser.add_argument("--seed", type=int, default=1, help="seed of all traffic (default 1)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder of the results"
    )
    args = parser.parse_args()
    rows: dict[int, dict[str, Row]] = {}
    for rate in RATES:
        started = time.perf_counter()
        rows[rate] = trials(rate, args.runs, args.seed)
        _say(f"{rate} requests/s: {time.perf_counter() - started:.0f} s")
    waits = [
        waiting(rate, look, errors, phi, runs=args.runs, seed=args.seed)
        for errors in (0.005, 0.001, 0.0)
        for phi in ("estimated", "declared")
        for rate, look in LOOKS
    ]
    results = Results(args.runs, args.seed, rows, waits)
    args.out.mkdir(parents=True, exist_ok=True)
    write(results, args.out)
    missed = [(bar, numbers) for bar, reached, numbers in checked(results) if not reached]
    for bar, numbers in missed:
        _say(f"missed: {bar}: {numbers}")
    _say(f"written to {args.out}")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
