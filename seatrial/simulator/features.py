"""Features as they could be known at the moment of each transaction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seatrial.simulator.settings import DAY

WINDOW_DAYS = (1, 7, 30)


def customer_windows(
    customer: NDArray[np.int64], time: NDArray[np.int64], amount: NDArray[np.float64]
) -> dict[str, NDArray[np.generic]]:
    """Count and mean amount of the customer's transactions in (t - days, t], this one included.

    Rows are in time order, [n]; so are the results.
    """
    order = np.lexsort((time, customer))
    key = _key(customer, time)[order]
    total = np.concatenate([[0.0], np.cumsum(amount[order])])
    last = np.searchsorted(key, key, side="right")
    result: dict[str, NDArray[np.generic]] = {}
    for days in WINDOW_DAYS:
        first = np.searchsorted(key, _key(customer, time - days * DAY)[order], side="right")
        first = np.maximum(first, np.searchsorted(key, _key(customer, 0 * time)[order]))
        count = np.empty(len(time), dtype=np.int64)
        mean = np.empty(len(time), dtype=np.float32)
        count[order] = last - first
        mean[order] = (total[last] - total[first]) / (last - first)
        result[f"customer_count_{days}d"] = count
        result[f"customer_mean_amount_{days}d"] = mean
    return result


def terminal_windows(
    terminal: NDArray[np.int64],
    time: NDArray[np.int64],
    fraud: NDArray[np.bool_],
    label_time: NDArray[np.int64],
) -> dict[str, NDArray[np.generic]]:
    """Labels that became known in (t - days, t] for the terminal, and the share of fraud in them.

    The share is NaN where no label became known. Counting labels when they become known, and not
    when the transaction happened, is what keeps the future out of the features.
    """
    order = np.lexsort((label_time, terminal))
    key = _key(terminal, label_time)[order]
    frauds = np.concatenate([[0], np.cumsum(fraud[order])])
    last = np.searchsorted(key, _key(terminal, time), side="right")
    floor = np.searchsorted(key, _key(terminal, 0 * time))
    result: dict[str, NDArray[np.generic]] = {}
    for days in WINDOW_DAYS:
        first = np.searchsorted(key, _key(terminal, time - days * DAY), side="right")
        first = np.maximum(first, floor)
        count = last - first
        known = np.maximum(count, 1)
        share = np.where(count > 0, (frauds[last] - frauds[first]) / known, np.nan)
        result[f"terminal_labels_{days}d"] = count.astype(np.int64)
        result[f"terminal_risk_{days}d"] = share.astype(np.float32)
    return result


def _key(group: NDArray[np.int64], time: NDArray[np.int64]) -> NDArray[np.int64]:
    """Orders by group, then by time; times are below 2**36 seconds."""
    return (group << 36) + time
