"""A seeded simulator of card transactions with known fraud, delayed labels and known drift.

The only code of the project that knows about fraud.
"""

from seatrial.simulator.contract import contract
from seatrial.simulator.settings import Drift, Injection, SchemaFault, SimulatorSettings
from seatrial.simulator.table import simulate, write

__all__ = [
    "Drift",
    "Injection",
    "SchemaFault",
    "SimulatorSettings",
    "contract",
    "simulate",
    "write",
]
