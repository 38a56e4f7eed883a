"""Transactions and the fraud among them.

After Le Borgne, Siblini, Lebichot, Bontempi, "Reproducible Machine Learning for Credit Card Fraud
Detection", chapter 3: fraud by amount, at compromised terminals, and with compromised cards. Unlike
there no scenario is certain, and some fraud has no pattern, so no model can be perfect.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seatrial.simulator.population import DIGITAL_GOODS, MERCHANTS, Population
from seatrial.simulator.settings import DAY, Drift, SimulatorSettings

CHANNELS = ("chip", "contactless", "online", "swipe")
CHIP, CONTACTLESS, ONLINE, SWIPE = range(4)
SCENARIOS = ("none", "amount", "terminal", "card", "other")
NONE, BY_AMOUNT, BY_TERMINAL, BY_CARD, OTHER = range(5)

AMOUNT_LIMIT = 600.0
AMOUNT_SHARE = 0.35
TERMINAL_DAYS, TERMINAL_SHARE = 28, 0.75
CARD_DAYS, CARD_SHARE, CARD_FACTOR = 10, 0.45, 4.5
OTHER_SHARE = 0.0005
LARGEST_AMOUNT = 20_000.0


@dataclass
class Transactions:
    """Columns of all simulated rows, in time order, [n] each."""

    time: NDArray[np.int64]  # seconds since the first simulated midnight
    customer: NDArray[np.int64]
    terminal: NDArray[np.int64]
    channel: NDArray[np.int64]  # index into CHANNELS
    amount: NDArray[np.float64]
    scenario: NDArray[np.int64]  # index into SCENARIOS


def transact(
    people: Population, settings: SimulatorSettings, rng: np.random.Generator
) -> Transactions:
    """Honest transactions: Poisson per customer and day, Friday and Saturday busier."""
    days = settings.days + settings.warm_up_days
    weekday = (np.arange(days) - settings.warm_up_days + settings.start // DAY + 3) % 7
    busy = np.array([0.93, 0.93, 0.96, 1.0, 1.15, 1.2, 0.83])[weekday]
    counts = rng.poisson(people.rate[:, None] * busy[None, :])
    customer, day = (np.repeat(part.ravel(), counts.ravel()) for part in np.indices(counts.shape))
    n = len(customer)
    online = rng.random(n) < people.online[customer]
    reach = people.nearby_start[customer + 1] - people.nearby_start[customer]
    visit = people.nearby_start[customer] + (rng.random(n) * reach).astype(np.int64)
    terminal = np.where(online, rng.choice(people.websites, n), people.nearby[visit])
    channel = np.where(
        online, ONLINE, rng.choice([CHIP, CONTACTLESS, SWIPE], n, p=[0.4, 0.55, 0.05])
    )
    second = np.where(online, rng.normal(17.5, 5, n), rng.normal(14, 4, n)) % 24 * 3600
    factor = np.array([factor for _, factor in MERCHANTS.values()])[people.category[terminal]]
    amount = people.mean_amount[customer] * factor * rng.lognormal(-0.22, 0.66, n)
    order = np.argsort(day * DAY + second.astype(np.int64), kind="stable")
    return Transactions(
        time=(day * DAY + second.astype(np.int64))[order],
        customer=customer[order],
        terminal=terminal[order],
        channel=channel[order],
        amount=amount[order],
        scenario=np.zeros(n, dtype=np.int64),
    )


def change_mix(
    rows: Transactions,
    people: Population,
    drifts: list[tuple[Drift, float, np.random.Generator]],
) -> None:
    """Moves a share of the transactions after each drift's second to shops for digital goods."""
    websites = people.websites[people.category[people.websites] == DIGITAL_GOODS]
    for drift, second, rng in drifts:
        moved = (rows.time >= second) & (rng.random(len(rows.time)) < drift.size)
        rows.terminal[moved] = rng.choice(websites, len(rows.time))[moved]
        rows.channel[moved] = ONLINE


def defraud(
    rows: Transactions,
    people: Population,
    settings: SimulatorSettings,
    rng: np.random.Generator,
    drifts: list[tuple[Drift, float, np.random.Generator]],
) -> None:
    """Turns rows into fraud of the four scenarios, in place."""
    n = len(rows.time)
    days = settings.days + settings.warm_up_days
    day = rows.time // DAY
    chance, other = rng.random(n), rng.random(n)
    websites = rng.choice(people.websites, n)

    rows.scenario[other < OTHER_SHARE] = OTHER
    large = (rows.amount > AMOUNT_LIMIT) & (chance < AMOUNT_SHARE)
    rows.scenario[large] = BY_AMOUNT

    broken = _compromised(days, settings.terminals, 0.0002, TERMINAL_DAYS, rng)
    rows.scenario[broken[day, rows.terminal] & (chance < TERMINAL_SHARE)] = BY_TERMINAL

    stolen = _compromised(days, settings.customers, 0.0005, CARD_DAYS, rng)
    card = stolen[day, rows.customer] & (rng.random(n) < CARD_SHARE)
    rows.scenario[card] = BY_CARD
    quiet = np.zeros(n, dtype=bool)
    for drift, second, stream in drifts:
        quiet |= card & (rows.time >= second) & (stream.random(n) < drift.size)
    loud = card & ~quiet
    rows.terminal[loud] = websites[loud]
    rows.channel[loud] = ONLINE
    rows.amount[loud] *= CARD_FACTOR * rng.lognormal(-0.1, 0.45, n)[loud]
    rows.channel[quiet] = CONTACTLESS
    rows.amount[quiet] *= 0.3


def _compromised(
    days: int, count: int, probability: float, length: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """[days, count]: whether each was taken over on that day or in the `length` - 1 before it."""
    taken = rng.random((days, count)) < probability
    total = np.cumsum(np.vstack([np.zeros((length, count)), taken]), axis=0)
    return np.asarray(total[length:] - total[:-length] > 0)
