"""The contract as a pandera schema: every row that breaks it, at once.

The sentences that end a step come from `serving.bundle.check_columns`, which checks requests too; a
test holds the two to the same rows.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from serving.bundle import Contract, Feature
from serving.bundle.rows import Columns

if TYPE_CHECKING:
    import pandera.polars as pa
    import polars as pl

# Its advice about optional packages would end up in every step's log.
os.environ.setdefault("DISABLE_PANDERA_IMPORT_WARNING", "True")


@dataclass(frozen=True)
class Breach:
    """Rows of one feature that break one rule of the contract."""

    feature: str
    rule: str
    rows: NDArray[np.intp]


def compile_schema(contract: Contract) -> pa.DataFrameSchema:
    """One typed column a feature with its range, categories and nullability."""
    import pandera.polars as pa  # noqa: PLC0415

    return pa.DataFrameSchema(
        {feature.name: _column(feature) for feature in contract.features},
        name=contract.name,
        strict=True,
    )


def breaches(contract: Contract, columns: Columns) -> list[Breach]:
    """Every breach, in the contract's order; `columns` as `canonical_columns` returns them."""
    from pandera.errors import SchemaErrors  # noqa: PLC0415

    try:
        compile_schema(contract).validate(_frame(contract, columns), lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases
    else:
        return []
    found = []
    for (name, rule), part in cases.group_by(["column", "check"], maintain_order=True):
        rows = np.sort(part["index"].to_numpy()).astype(np.intp)
        shown = "not nullable" if rule == "not_nullable" else str(rule)
        found.append(Breach(str(name), shown, rows))
    order = {name: place for place, name in enumerate(contract.feature_names)}
    return sorted(found, key=lambda breach: order[breach.feature])


def _column(feature: Feature) -> pa.Column:
    import pandera.polars as pa  # noqa: PLC0415
    import polars as pl  # noqa: PLC0415

    kinds: dict[str, Any] = {
        "float32": pl.Float32,
        "float64": pl.Float64,
        "int64": pl.Int64,
        "string": pl.String,
    }
    checks = []
    if feature.dtype in {"float32", "float64"}:
        finite = pa.Check(
            lambda data: data.lazyframe.select(pl.col(data.key).is_finite().fill_null(value=True)),
            error="finite",
        )
        checks.append(finite)
    if feature.min is not None:
        checks.append(pa.Check.ge(feature.min, error=f"at least {feature.min:g}"))
    if feature.max is not None:
        checks.append(pa.Check.le(feature.max, error=f"at most {feature.max:g}"))
    if feature.categories and feature.unseen == "reject":
        allowed = [*feature.categories, *feature.missing]
        checks.append(pa.Check.isin(allowed, error="one of the categories"))
    return pa.Column(kinds[feature.dtype], checks, nullable=feature.nullable)


def _frame(contract: Contract, columns: Columns) -> pl.DataFrame:
    """Missing values become nulls, which is how pandera knows them."""
    import polars as pl  # noqa: PLC0415

    series = []
    for feature in contract.features:
        column = columns[feature.name]
        if feature.dtype == "string":
            text = pl.Series(feature.name, column, dtype=pl.String)
            series.append(text.set(text == "", None))
        else:
            numbers = pl.Series(feature.name, column)
            series.append(numbers if feature.dtype == "int64" else numbers.fill_nan(None))
    return pl.DataFrame(series)
