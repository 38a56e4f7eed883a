"""What `seatrial demo` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DemoSettings:
    """The defaults are what `make demo` runs."""

    runs: Path = Path("runs")
    """Folder that gets runs/<id>."""
    data: Path | None = None
    """CSV or Parquet; None: the transaction simulator."""
    contract: Path | None = None
    customers: int = 1_760
    days: int = 75
    """As many transactions as the simulator's own defaults give, over time enough for a shift."""
    seed: int = 20_260_901
    port: int = 8080
    """The gateway's port on 127.0.0.1, HTTP and gRPC."""
    rate: float = 320.0
    """Requests a second the replay sends."""
    connections: int = 16
    keep: bool = False
    """Leave the system running at the end."""
