"""Schema faults: rows that break the contract from a named time on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from seatrial.simulator.settings import SchemaFault
from serving.errors import UsageError

UNKNOWN = "unheard_of"


def break_schema(
    table: pd.DataFrame, fault: SchemaFault, since: int, rng: np.random.Generator
) -> pd.DataFrame:
    """The table with the fault in its rows from Unix time `since` on. Raises UsageError."""
    name = fault.target
    if name not in table.columns:
        raise UsageError(f"schema fault '{fault.kind}': the table has no column '{name}'")
    after = (table["time"] >= since).to_numpy()
    hit = after & (rng.random(len(table)) < fault.share)
    column = table[name]
    textual = column.dtype == object
    if fault.kind == "missing_column":
        if after.all():
            return table.drop(columns=name)
        return table.assign(**{name: column.mask(after)})
    if fault.kind == "unknown_category":
        if not textual:
            raise UsageError(f"schema fault 'unknown_category': '{name}' holds numbers, not text")
        return table.assign(**{name: column.where(~hit, UNKNOWN)})
    if textual:
        raise UsageError(f"schema fault '{fault.kind}': '{name}' holds text, not numbers")
    if fault.kind == "wrong_type":
        text = column.astype(str)
        return table.assign(**{name: text.where(~after, text + " EUR").astype(object)})
    return table.assign(**{name: column.where(~hit, np.nan)})
