"""From a table file and a contract to checked rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.checked import PARTS, Checked, Part, Rows, fingerprint, write_checked
from components.files import read_json, write_bytes
from components.validate.report import page
from components.validate.rules import Finding, drift_reference, examine
from components.validate.schema import breaches
from components.validate.split import Split, cut, select
from components.validate.table import Arrays, read_table
from serving.bundle import Contract, canonical_columns, check_columns
from serving.bundle.rows import Columns
from serving.errors import DataError, UsageError


def run(
    *,
    table: Path,
    contract: Contract,
    checked: Path,
    findings: Path | None = None,
    parent: Path | None = None,
    window_from: float | None = None,
    window_to: float | None = None,
    test_from: float | None = None,
    validation_fraction: float = 0.15,
    test_fraction: float = 0.2,
    newest: float = 0.0,
) -> dict[str, Any]:
    """Checks a table, splits it by time and writes the checked rows.

    table: CSV or Parquet file, or what the ingest step wrote.
    contract: what its columns must look like.
    checked: folder to write.
    findings: HTML file to write, what was checked and found, also when the step fails.
    parent: bundle folder whose drift reference the rows are compared with; empty for none.
    window_from: rows earlier than this time are left out.
    window_to: rows from this time on are left out, and labels known only then.
    test_from: time at which the test slice begins; else the last test_fraction of the rows.
    validation_fraction: share of the rows before the test slice that training stops by.
    test_fraction: share of the rows that the model is judged on.
    newest: only rows of this much time before the window's end; 0 for all.

    Returns the facts it wrote. Raises FileError, DataError or UsageError.
    """
    split = Split(test_from, validation_fraction, test_fraction)
    shown = Report(table, contract, findings)
    try:
        done = _checked(
            table,
            contract,
            window=(window_from, window_to),
            newest=newest,
            split=split,
            parent=parent,
            shown=shown,
        )
    except DataError as error:
        shown.write(str(error))
        raise
    shown.write()
    write_checked(checked, done)
    return {**done.facts, "rows": done.counts}


@dataclass
class Report:
    """What the page will show, as far as the step got."""

    table: Path
    contract: Contract
    file: Path | None
    findings: list[Finding] = field(default_factory=list)
    columns: Columns | None = None
    in_file: NDArray[np.intp] | None = None
    facts: dict[str, Any] | None = None

    def write(self, error: str = "") -> None:
        """An error that no finding tells becomes one."""
        if self.file is None:
            return
        findings = list(self.findings)
        if error and not any(finding.result == "fail" for finding in findings):
            findings.insert(0, Finding("table", "fail", error))
        text = page(
            self.table.name,
            self.contract,
            findings,
            columns=self.columns,
            in_file=self.in_file,
            facts=self.facts,
        )
        write_bytes(self.file, text.encode())


def _checked(
    table: Path,
    contract: Contract,
    *,
    window: tuple[float | None, float | None],
    newest: float,
    split: Split,
    parent: Path | None,
    shown: Report,
) -> Checked:
    window_from, window_to = window
    arrays = read_table(table, contract)
    columns = _features(table, contract, arrays)
    rows = Rows(
        columns,
        _label(table, contract, arrays),
        _weight(table, contract, arrays),
        _time(table, contract, arrays),
    )
    if newest > 0:
        end = float(rows.time.max()) if window_to is None else window_to
        window_from = max(end - newest, -np.inf if window_from is None else window_from)
    positions = select(rows.time, window_from, window_to)
    if not len(positions):
        raise DataError(
            f"{table}: no row has {contract.time or 'a position'} in the window"
            f" [{_bound(window_from)}, {_bound(window_to)}); the table spans"
            f" [{rows.time.min():g}, {rows.time.max():g}]"
        )
    rows = rows.take(positions)
    shown.columns, shown.in_file = rows.columns, positions
    shown.findings = _schema_findings(contract, rows)
    for violation in check_columns(contract, rows.columns):
        in_file = replace(violation, rows=positions[violation.rows])
        raise DataError(f"{table}: {in_file.sentence()}")
    end = float(rows.time[-1]) if window_to is None else window_to
    kept, counts = cut(rows.time, _known(contract, arrays, positions, end), split)
    left_out = len(rows) - len(kept)
    as_filed = np.argsort(positions, kind="stable")
    window_rows, rows = rows, rows.take(kept)
    _check_classes(table, contract, rows, counts)
    facts = {
        "source": _source(table),
        "data": fingerprint(contract, rows, counts),
        "from": float(rows.time[0]),
        "to": float(rows.time[-1]),
        "test_from": float(rows.time[counts["train"] + counts["validation"]]),
        "positives": int(rows.label.sum()),
        "label_unknown": left_out,
    }
    done = Checked(contract, rows, counts, facts)
    shown.facts = {"rows": counts}
    reference = None if parent is None else drift_reference(parent)
    found = [
        replace(f, rows=None if f.rows is None else as_filed[f.rows])
        for f in examine(done, window_rows.take(as_filed), reference)
    ]
    shown.findings += found
    for finding in found:
        if finding.result == "fail":
            raise DataError(
                f"{table}: {finding.rule}: {finding.sentence}; mend the table or set"
                f" checks.{finding.rule} to 'warn' in the contract"
            )
    facts["warnings"] = {f.rule: f.sentence for f in found if f.result == "warn"}
    return done


def _schema_findings(contract: Contract, rows: Rows) -> list[Finding]:
    broken = [
        Finding(
            "schema",
            "fail",
            f"feature '{b.feature}' must be {b.rule}: {len(b.rows)} rows are not",
            b.rows,
        )
        for b in breaches(contract, rows.columns)
    ]
    return broken or [Finding("schema", "fail", "")]


def moment(name: str, text: str) -> float | None:
    """A time given as text; empty is none. For kfp.local, which passes no empty number on."""
    try:
        return float(text) if text else None
    except ValueError:
        raise UsageError(f"{name} {text!r} is not a time; give a number or nothing") from None


def _features(table: Path, contract: Contract, arrays: Arrays) -> Columns:
    try:
        return canonical_columns(contract, {n: arrays[n] for n in contract.feature_names})
    except DataError as error:
        raise DataError(f"{table}: {error}") from None


def _label(table: Path, contract: Contract, arrays: Arrays) -> NDArray[np.int8]:
    name, values = contract.label.column, arrays[contract.label.column]
    if values.dtype == object:
        absent = np.flatnonzero([value in {None, ""} for value in values])
    else:
        absent = np.flatnonzero(np.isnan(values))
    if len(absent):
        raise DataError(
            f"{table}: label column '{name}': row {absent[0]} has no label; drop such rows"
        )
    if isinstance(contract.label.positive, str) and values.dtype != object:
        raise DataError(
            f"{table}: label column '{name}' holds numbers such as {values[0]}; the contract's"
            f" positive is the text {contract.label.positive!r}"
        )
    distinct = sorted(set(values.tolist()), key=str)
    if len(distinct) > 2:
        shown = ", ".join(str(value) for value in distinct[:5])
        raise DataError(
            f"{table}: label column '{name}' has {len(distinct)} values ({shown}); it needs two"
        )
    return np.asarray(values == contract.label.positive, dtype=np.int8)


def _weight(table: Path, contract: Contract, arrays: Arrays) -> NDArray[np.float64]:
    if contract.weight is None:
        return np.ones(len(arrays[contract.label.column]))
    weight = arrays[contract.weight].astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(weight) | (weight < 0))
    if len(bad):
        raise DataError(
            f"{table}: weight column '{contract.weight}': {weight[bad[0]]:g} in row {bad[0]}"
            " is not a weight; give finite numbers from 0 up"
        )
    return weight


def _time(table: Path, contract: Contract, arrays: Arrays) -> NDArray[np.float64]:
    if contract.time is None:
        return np.arange(len(arrays[contract.label.column]), dtype=np.float64)
    time = arrays[contract.time].astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(time))
    if len(bad):
        raise DataError(
            f"{table}: time column '{contract.time}': row {bad[0]} has no time; the rows cannot be"
            " put in order"
        )
    return time


def _known(
    contract: Contract, arrays: Arrays, positions: NDArray[np.intp], end: float
) -> NDArray[np.bool_]:
    """Whether each row's label was known at the window's end; one without a date never was."""
    if contract.label.available_at is None:
        return np.ones(len(positions), dtype=bool)
    available = arrays[contract.label.available_at].astype(np.float64)[positions]
    return np.asarray(available <= end)


def _check_classes(table: Path, contract: Contract, rows: Rows, counts: dict[Part, int]) -> None:
    """Every slice needs weighted rows of both classes, to fit, to stop by or to judge with."""
    everything = Checked(contract, rows, counts, {})
    for part in PARTS:
        of_part = everything.part(part)
        for value, name in ((1, "positive"), (0, "negative")):
            if not of_part.weight[of_part.label == value].sum() > 0:
                raise DataError(
                    f"{table}: label column '{contract.label.column}' has no {name} row among the"
                    f" {len(of_part)} rows of the {part} slice"
                    f" (positive is {contract.label.positive!r}); give more rows or another split"
                )


def _source(table: Path) -> str:
    """The name of the file that the rows come from."""
    if table.is_dir():
        return str(read_json(table / "facts.json", "ingest")["source"])
    return table.name


def _bound(value: float | None) -> str:
    return "..." if value is None else f"{value:g}"
