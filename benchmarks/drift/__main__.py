"""`python -m benchmarks.drift`: about ten minutes on one idle core."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from benchmarks.drift.comparison import Always, Never, Played, play
from benchmarks.drift.ours import OurWatch, clean_runs, drift_runs
from benchmarks.drift.peers import played
from benchmarks.drift.real import ROOT, TABLES
from benchmarks.drift.real import play as play_table
from benchmarks.drift.report import Results, checked, write
from benchmarks.drift.streams import SCENARIOS, WORLDS

T = TypeVar("T")
BENCH_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
SKIPPED = {
    "Alibi Detect MMDDriftOnline": "88 s of fitting a reference for a run length of 1,000, which it"
    " then holds with 499 to 1,007; no run length of 10,000 can be fitted here",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.drift", description=__doc__)
    parser.add_argument("--streams", type=int, default=200, help="clean streams of each world")
    parser.add_argument("--repeats", type=int, default=60, help="streams with each kind of drift")
    parser.add_argument("--seed", type=int, default=1, help="seed of all streams")
    parser.add_argument("--bench-python", type=Path, default=BENCH_PYTHON, help="has River")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("SEATRIAL_DATA") or ROOT.parent / "shared" / "data"),
        help="folder of the real tables",
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of results")
    args = parser.parse_args()
    skipped = dict(SKIPPED)
    speed = _timed("speed", _speed)
    real = [_timed(t.name, lambda t=t: play_table(t, args.data)) for t in TABLES]  # type: ignore[misc]
    drifts = {
        world.name: {
            scenario.name: _timed(
                f"{world.name}: {scenario.name}",
                lambda w=world, s=scenario: drift_runs(w, s, args.seed, args.repeats),  # type: ignore[misc]
            )
            for scenario in SCENARIOS
        }
        for world in WORLDS
    }
    compared: list[Played] = [
        _timed("the watch, compared", lambda: play(OurWatch(), args.seed)),
        play(Never(), args.seed),
        play(Always(), args.seed),
        *(
            _timed(name, lambda n=name: played(n, args.seed))  # type: ignore[misc]
            for name in ("tabular", "evidently-any", "evidently-share")
        ),
    ]
    if args.bench_python.exists():
        compared.append(_timed("river", lambda: _river(args.bench_python, args.seed)))
    else:
        skipped["River ADWIN"] = "its environment is not built"
    clean = {
        world.name: _timed(
            f"{world.name}: clean",
            lambda w=world: clean_runs(w, args.seed, args.streams),  # type: ignore[misc]
        )
        for world in WORLDS
    }
    results = Results(args.seed, args.streams, clean, drifts, compared, skipped, real, speed)
    args.out.mkdir(parents=True, exist_ok=True)
    write(results, args.out)
    for bar, reached, numbers in checked(results):
        _say(f"{'reached' if reached else 'MISSED'}: {bar}: {numbers}")
    return 0


def _speed() -> dict[str, float]:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.drift.speed"],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    return dict(json.loads(ended.stdout))


def _river(python: Path, seed: int) -> Played:
    ended = subprocess.run(
        [str(python), "-m", "benchmarks.drift.peers", "river", "--seed", str(seed)],
        capture_output=True,
        text=True,
        check=True,
        timeout=3600,
    )
    return Played(**json.loads(ended.stdout))


def _timed(what: str, do: Callable[[], T]) -> T:
    began = time.process_time()
    found = do()
    _say(f"{what}: {time.process_time() - began:.0f} s of CPU")
    return found


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
