"""The heavy work of stages, as their child processes do it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from seatrial import simulator
from seatrial.demo.windows import Cut, cut
from seatrial.replay import measure

Progress = Callable[[str], None]


def simulate(
    folder: Path, settings: simulator.SimulatorSettings, progress: Progress
) -> tuple[Path, Path]:
    del progress
    return simulator.write(folder, settings)


def cut_table(progress: Progress, **arguments: Any) -> Cut:
    del progress
    return cut(**arguments)


def measure_gateway(progress: Progress, **arguments: Any) -> dict[str, Any]:
    del progress
    return measure(**arguments, seconds=6)
