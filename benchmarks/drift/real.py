"""The two real tables with drift that is dated: the watch after `fit_drift`'s own learning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from serving.bundle import load_contract
from serving.drift.encoding import Column, Encoder, Matrix
from serving.drift.watch import Watch, WatchSettings, learn_tolerance

ROOT = Path(__file__).resolve().parents[2]
REFERENCE_ROWS = 10_000
BATCH = 32


@dataclass(frozen=True)
class Table:
    name: str
    file: str
    contract: str
    calendar: tuple[str, ...]
    """Features that say what day it is: they never repeat, so they are not watched."""
    training: int
    """First rows, that the reference is drawn from."""
    change: int
    """Row of the change that is known."""
    what: str
    expected: tuple[str, ...]
    """The features that change then, the one that dates the change first."""


TABLES = (
    Table(
        *("bank_marketing", "bank_marketing_2008_2010.parquet", "bank_marketing.json"),
        calendar=("month", "day_of_week"),
        training=20_000,
        change=23_997,
        what="the crisis: emp.var.rate falls from 1.4 to -0.1",
        expected=("emp.var.rate", "cons.price.idx", "cons.conf.idx", "euribor3m", "nr.employed"),
    ),
    Table(
        *("electricity", "electricity_elec2.parquet", "electricity.json"),
        calendar=("day", "period"),
        training=12_000,
        change=17_424,
        what="the Victorian market joins: vicprice begins to move",
        expected=("vicprice", "vicdemand", "transfer"),
    ),
)


@dataclass(frozen=True)
class Alarm:
    row: int
    named: tuple[str, ...]
    """Columns by evidence, the first five."""


@dataclass(frozen=True)
class Found:
    table: Table
    training_evidence: float
    """Nats, the most while the training rows themselves are played."""
    before: tuple[Alarm, ...]
    """Alarms between training and the change, a restart after each."""
    at_change: Alarm | None
    """The first that only rows from the change on led to."""

    @property
    def named(self) -> bool:
        """Whether features that change then come first, with the one that dates it among them."""
        if self.at_change is None:
            return False
        first, expected = self.at_change.named, self.table.expected
        return first[0] in expected and expected[0] in first[: len(expected)]


def play(table: Table, data: Path) -> Found:
    columns, rows = read(table, data)
    training = rows[: table.training]
    chosen = np.random.default_rng(0).permutation(table.training)[:REFERENCE_ROWS]
    reference = training[np.sort(chosen)]
    learned = learn_tolerance(columns, reference, training)
    watch = Watch(columns, reference, WatchSettings(tolerance=learned))
    evidence = max(
        watch.observe(training[i : i + BATCH]).evidence for i in range(0, len(training), BATCH)
    )
    before = _alarms(watch, rows, table.training, table.change)
    after = _alarms(watch, rows, table.change, table.change + 2000)
    return Found(table, evidence, tuple(before), after[0] if after else None)


def read(table: Table, data: Path) -> tuple[tuple[Column, ...], Matrix]:
    contract = load_contract(ROOT / "tests" / "contracts" / table.contract)
    watched = [name for name in contract.feature_names if name not in table.calendar]
    encoder = Encoder(contract, watched, score=False)
    frame = pd.read_parquet(data / table.file)
    columns = {
        name: frame[name].tolist() if frame[name].dtype == object else frame[name].to_numpy()
        for name in watched
    }
    return encoder.columns, encoder.encode(columns, None)


def _alarms(watch: Watch, rows: Matrix, start: int, end: int) -> list[Alarm]:
    watch.restart()
    found = []
    for first in range(start, min(end, len(rows)), BATCH):
        step = watch.observe(rows[first : min(first + BATCH, end)])
        if step.crossing is not None:
            names = dict.fromkeys(finding.column for finding in watch.findings())
            found.append(Alarm(first + step.crossing, tuple(names)[:5]))
            watch.restart()
    return found
