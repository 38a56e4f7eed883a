"""python -m components.fit_drift: the component's work without a pipeline."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from components.fit_drift.core import DETECTORS, fit_drift
from serving.bundle import load_contract
from serving.errors import SeatrialError


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m components.fit_drift",
        description="Draws the drift reference of a bundle and tries the detectors on it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help=".npz of the training window")
    parser.add_argument("--contract", type=Path, required=True, help="contract file")
    parser.add_argument("--drift", type=Path, required=True, help="folder to write")
    parser.add_argument("--rows", type=int, default=5000, help="rows of the reference")
    parser.add_argument("--p_value", type=float, default=0.05, help="chance of a false alarm, ever")
    parser.add_argument("--window", type=int, default=500, help="rows in a test window")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample")
    parser.add_argument("--detector", default="tabular", choices=DETECTORS, help="window tests")
    parser.add_argument("--no-watch", action="store_true", help="turn the always-on watch off")
    given = parser.parse_args()
    try:
        fitted = fit_drift(
            given.data,
            load_contract(given.contract),
            given.drift,
            rows=given.rows,
            p_value=given.p_value,
            window=given.window,
            seed=given.seed,
            detector=given.detector,
            watch=not given.no_watch,
        )
    except SeatrialError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(fitted.figures(), sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
