"""Where to plant the bad canary's fault: on values that golden rows lack and traffic has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serving.bundle import Bundle
from serving.bundle.rows import Columns
from serving.errors import StageError

SHARE = 0.05
"""The share of held-out rows the fault should meet; the nearest possible is taken."""


@dataclass(frozen=True)
class Trigger:
    feature: str
    above: float
    share: float
    """Of the held-out rows."""


def choose_trigger(bundle: Bundle, held_out: Columns) -> Trigger:
    """The numeric feature and bound met by no golden row and by about 5 % of the held-out rows.

    Raises StageError when no feature separates the two.
    """
    golden = bundle.read_json("golden.json")["columns"]
    best: Trigger | None = None
    for feature in bundle.contract.features:
        if feature.dtype == "string":
            continue
        seen = np.array([np.nan if v is None else v for v in golden[feature.name]], dtype=float)
        values = held_out[feature.name].astype(float)
        if np.isnan(seen).all() or np.isnan(values).all():
            continue
        above = max(float(np.nanmax(seen)), float(np.nanquantile(values, 1 - SHARE)))
        share = float(np.mean(values > above))
        if share > 0 and (best is None or abs(share - SHARE) < abs(best.share - SHARE)):
            best = Trigger(feature.name, above, share)
    if best is None:
        raise StageError("no held-out value lies above the golden rows' in any numeric feature")
    return best
