"""The shift that the demo's simulator makes: after it every amount is larger.

It comes early enough for the features that look back over 30 days to have settled in the rows that
are replayed: what the second bundle learned as usual is what it will see.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from seatrial.simulator import Drift
from serving.whole import replacing

AT = 0.4
"""Share of the simulated days."""
SCALE = 1.3
SHIFTED = frozenset(
    {"amount", *(f"customer_mean_amount_{days}d" for days in (1, 7, 30))},
)
"""Features that such a shift moves: one of them must be named first."""
CALM_SECONDS = 6.0
"""Replayed before the shift."""
ENOUGH_SECONDS = 420.0
"""Longer than the replay runs: it must not begin again with the rows before the shift."""


def injection(days: int) -> Drift:
    return Drift(at=AT * days, kind="amount_scale", size=SCALE)


def write_traffic(calm: Path, shifted: Path, file: Path, rate: float) -> None:
    """Writes `file`: rows from before the shift for CALM_SECONDS, then those from after it."""
    first = pd.read_parquet(calm).tail(int(CALM_SECONDS * rate))
    then = pd.read_parquet(shifted)
    repeated = np.resize(np.arange(len(then)), int(ENOUGH_SECONDS * rate))
    with replacing(file) as partial:
        pd.concat([first, then.iloc[repeated]]).to_parquet(partial, index=False)
