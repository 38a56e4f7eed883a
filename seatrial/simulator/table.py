"""The simulated table: one row per transaction, in time order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seatrial.simulator.contract import contract
from seatrial.simulator.faults import break_schema
from seatrial.simulator.features import customer_windows, terminal_windows
from seatrial.simulator.population import (
    CARD_TYPES,
    CATEGORIES,
    KM_PER_UNIT,
    Population,
    populate,
)
from seatrial.simulator.settings import DAY, Drift, SchemaFault, SimulatorSettings
from seatrial.simulator.transactions import (
    BY_CARD,
    CHANNELS,
    LARGEST_AMOUNT,
    NONE,
    ONLINE,
    SCENARIOS,
    Transactions,
    change_mix,
    defraud,
    transact,
)
from serving.whole import replacing, write_text

TABLE, CONTRACT = "transactions.parquet", "contract.json"
Drifts = list[tuple[Drift, float, np.random.Generator]]


def simulate(settings: SimulatorSettings | None = None) -> pd.DataFrame:
    """The table that `contract()` describes; equal settings give equal tables.

    An injection changes no row before its time. Raises UsageError for a schema fault on a column
    that it does not fit.
    """
    settings = settings or SimulatorSettings()
    # A stream of its own for each part and injection: adding one disturbs no other.
    world, honest, fraudulent, delays, devices, *rest = (
        np.random.default_rng(seed)
        for seed in np.random.SeedSequence(settings.seed).spawn(5 + len(settings.injections))
    )
    drifts: Drifts = []
    faults: list[tuple[SchemaFault, np.random.Generator]] = []
    for injection, stream in zip(settings.injections, rest, strict=True):
        if isinstance(injection, Drift):
            second = (settings.warm_up_days + injection.at) * DAY
            drifts.append((injection, second, stream))
        else:
            faults.append((injection, stream))

    people = populate(settings, world)
    rows = transact(people, settings, honest)
    change_mix(rows, people, _of(drifts, "new_category_mix"))
    defraud(rows, people, settings, fraudulent, _of(drifts, "fraud_pattern"))
    for drift, second, _ in _of(drifts, "amount_scale"):
        rows.amount[rows.time >= second] *= drift.size
    rows.amount = np.clip(rows.amount, 0.5, LARGEST_AMOUNT).round(2)

    label_time = rows.time + (delays.uniform(1, 7, len(rows.time)) * DAY).astype(np.int64)
    table = _table(
        rows,
        people,
        settings,
        label_time=label_time,
        devices=devices,
        losses=_of(drifts, "missing"),
    )
    for fault, stream in faults:
        since = settings.start + int(fault.at * DAY)
        table = break_schema(table, fault, since, stream)
    return table


def write(folder: Path, settings: SimulatorSettings | None = None) -> tuple[Path, Path]:
    """Simulates and writes `transactions.parquet` and `contract.json`, each atomically."""
    table = simulate(settings)
    folder.mkdir(parents=True, exist_ok=True)
    table_path, contract_path = folder / TABLE, folder / CONTRACT
    with replacing(table_path) as partial:
        table.to_parquet(partial, index=False)
    write_text(contract_path, contract().canonical_json())
    return table_path, contract_path


def _of(drifts: Drifts, kind: str) -> Drifts:
    return [entry for entry in drifts if entry[0].kind == kind]


def _table(
    rows: Transactions,
    people: Population,
    settings: SimulatorSettings,
    *,
    label_time: NDArray[np.int64],
    devices: np.random.Generator,
    losses: Drifts,
) -> pd.DataFrame:
    n = len(rows.time)
    fraud = rows.scenario != NONE
    online = rows.channel == ONLINE
    day = rows.time / DAY
    hour = rows.time // 3600 % 24
    weekday = (rows.time // DAY - settings.warm_up_days + settings.start // DAY + 3) % 7
    # A thief pays from a device of his own, most of the time a new one.
    fresh = online & np.where(
        rows.scenario == BY_CARD, devices.random(n) < 0.5, devices.random(n) < 0.06
    )
    device = np.where(fresh, devices.exponential(2.0, n), people.device_since[rows.customer] + day)
    away = people.position[rows.customer] - people.terminal_position[rows.terminal]
    distance = np.hypot(away[:, 0], away[:, 1]) * KM_PER_UNIT
    device[~online], distance[online] = np.nan, np.nan
    for drift, second, stream in losses:
        after = rows.time >= second
        device[after & (stream.random(n) < drift.size)] = np.nan
        distance[after & (stream.random(n) < drift.size)] = np.nan

    offset = settings.start - settings.warm_up_days * DAY
    columns: dict[str, NDArray[Any]] = {
        "customer_id": rows.customer,
        "terminal_id": rows.terminal,
        "time": rows.time + offset,
        "amount": rows.amount,
        "hour": hour,
        "night": (hour < 6).astype(np.int64),
        "weekend": (weekday >= 5).astype(np.int64),
        "merchant_category": _names(CATEGORIES, people.category[rows.terminal]),
        "channel": _names(CHANNELS, rows.channel),
        "card_type": _names(CARD_TYPES, people.card_type[rows.customer]),
        "card_age_days": (people.card_opened[rows.customer] + day).astype(np.int64),
        "device_age_days": device.astype(np.float32).round(1),
        "distance_km": distance.astype(np.float32).round(1),
        **customer_windows(rows.customer, rows.time, rows.amount),
        **terminal_windows(rows.terminal, rows.time, fraud, label_time),
        "fraud": fraud.astype(np.int64),
        "label_time": label_time + offset,
        "scenario": _names(SCENARIOS, rows.scenario),
    }
    kept = rows.time >= settings.warm_up_days * DAY
    table = pd.DataFrame({name: column[kept] for name, column in columns.items()})
    table.insert(0, "transaction_id", np.arange(len(table)))
    return table


def _names(names: tuple[str, ...], index: NDArray[np.int64]) -> NDArray[Any]:
    return np.asarray(np.array(names, dtype=object)[index])
