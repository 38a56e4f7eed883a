"""Customers and terminals of the simulated world, and which terminals a customer visits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seatrial.simulator.settings import SimulatorSettings

MERCHANTS: dict[str, tuple[float, float]] = {
    "cash": (0.06, 2.2),
    "digital_goods": (0.0, 0.6),
    "electronics": (0.07, 3.2),
    "fuel": (0.14, 1.1),
    "groceries": (0.30, 0.9),
    "restaurants": (0.23, 0.7),
    "retail": (0.20, 1.2),
    "travel": (0.0, 4.0),
}
"""Merchant category: share among shops, and factor on the customer's mean amount."""
ONLINE_MERCHANTS = {"digital_goods": 0.35, "electronics": 0.15, "retail": 0.35, "travel": 0.15}
CATEGORIES = tuple(MERCHANTS)
DIGITAL_GOODS = CATEGORIES.index("digital_goods")
CARD_TYPES = ("credit", "debit", "prepaid")
ONLINE_SHARE = 0.15
KM_PER_UNIT = 1.6


@dataclass(frozen=True)
class Population:
    """Arrays over customers [c] and over terminals [t]; positions are on a map of 100 x 100."""

    position: NDArray[np.float64]  # [c, 2]
    mean_amount: NDArray[np.float64]  # [c]
    rate: NDArray[np.float64]  # [c] transactions a day
    online: NDArray[np.float64]  # [c] share of transactions that are online
    card_type: NDArray[np.int64]  # [c] index into CARD_TYPES
    card_opened: NDArray[np.float64]  # [c] days before the first simulated day
    device_since: NDArray[np.float64]  # [c] days before the first simulated day
    terminal_position: NDArray[np.float64]  # [t, 2]
    category: NDArray[np.int64]  # [t] index into CATEGORIES
    shops: NDArray[np.int64]  # terminals with a place
    websites: NDArray[np.int64]  # terminals without one
    nearby: NDArray[np.int64]  # terminals in reach, all customers one after another
    nearby_start: NDArray[np.int64]  # [c + 1] where each customer's begin in `nearby`


def populate(settings: SimulatorSettings, rng: np.random.Generator) -> Population:
    """Customers with their own means and rates, terminals with a category, and the reach map."""
    c, t = settings.customers, settings.terminals
    online_terminal = rng.random(t) < ONLINE_SHARE
    online_terminal[:2] = True, False
    shop_share = np.array([share for share, _ in MERCHANTS.values()])
    web_share = np.array([ONLINE_MERCHANTS.get(name, 0.0) for name in CATEGORIES])
    category = np.where(
        online_terminal,
        rng.choice(len(CATEGORIES), t, p=web_share),
        rng.choice(len(CATEGORIES), t, p=shop_share / shop_share.sum()),
    )
    category[0] = DIGITAL_GOODS
    position = rng.uniform(0, 100, (c, 2))
    terminal_position = rng.uniform(0, 100, (t, 2))
    shops = np.flatnonzero(~online_terminal)
    nearby, start = _reach(position, terminal_position[shops], settings.radius)
    return Population(
        position=position,
        mean_amount=rng.uniform(8, 80, c),
        rate=rng.uniform(0.1, 4, c),
        online=rng.beta(2, 6, c),
        card_type=rng.choice(len(CARD_TYPES), c, p=[0.35, 0.57, 0.08]),
        card_opened=rng.gamma(2.0, 450.0, c),
        device_since=rng.gamma(1.5, 200.0, c),
        terminal_position=terminal_position,
        category=category,
        shops=shops,
        websites=np.flatnonzero(online_terminal),
        nearby=shops[nearby],
        nearby_start=start,
    )


def _reach(
    customers: NDArray[np.float64], shops: NDArray[np.float64], radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the shops within `radius` of each customer, and always of the nearest."""
    found: list[NDArray[np.int64]] = []
    counts: list[NDArray[np.int64]] = []
    block = max(1, 4_000_000 // len(shops))
    for first in range(0, len(customers), block):
        gap = customers[first : first + block, None, :] - shops[None, :, :]
        squared = np.einsum("ijk,ijk->ij", gap, gap)
        near = squared <= radius * radius
        near[np.arange(len(near)), squared.argmin(axis=1)] = True
        found.append(np.nonzero(near)[1])
        counts.append(near.sum(axis=1))
    return np.concatenate(found), np.concatenate([[0], np.cumsum(np.concatenate(counts))])
