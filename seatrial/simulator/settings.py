"""What the simulator is asked for, and what may go wrong in its table at a named time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from serving.errors import UsageError

DAY = 86_400
DriftKind = Literal["amount_scale", "new_category_mix", "fraud_pattern", "missing"]
FaultKind = Literal["missing_column", "wrong_type", "unknown_category", "nan"]

DRIFT_KINDS = ("amount_scale", "new_category_mix", "fraud_pattern", "missing")
FAULT_COLUMNS: dict[str, str] = {
    "missing_column": "merchant_category",
    "wrong_type": "amount",
    "unknown_category": "channel",
    "nan": "amount",
}
"""Each kind of schema fault, and the column it breaks when none is named."""


@dataclass(frozen=True)
class Drift:
    """From day `at` on the rows are drawn differently; they still satisfy the contract.

    amount_scale: amounts are multiplied by `size` (> 0).
    new_category_mix: a share `size` of transactions moves to online shops for digital goods.
    fraud_pattern: a share `size` of card fraud turns into small contactless payments.
    missing: a share `size` of device ages and distances is lost.
    """

    at: float
    kind: DriftKind
    size: float

    def __post_init__(self) -> None:
        if self.kind not in DRIFT_KINDS:
            known = ", ".join(DRIFT_KINDS)
            raise UsageError(f"drift kind '{self.kind}' is unknown; choose one of {known}")
        if self.size <= 0 or (self.kind != "amount_scale" and self.size > 1):
            bound = "above 0" if self.kind == "amount_scale" else "a share in (0, 1]"
            raise UsageError(f"drift '{self.kind}': size {self.size:g} must be {bound}")


@dataclass(frozen=True)
class SchemaFault:
    """From day `at` on the rows break the contract.

    missing_column: the column is no longer delivered: null in the table, absent if `at` is 0.
    wrong_type: numbers arrive as text with a unit, so the whole column of the table is text.
    unknown_category, nan: a `share` of the rows gets a category, or a NaN, not in the contract.
    """

    at: float
    kind: FaultKind
    column: str | None = None
    share: float = 0.05

    def __post_init__(self) -> None:
        if self.kind not in FAULT_COLUMNS:
            known = ", ".join(FAULT_COLUMNS)
            raise UsageError(f"schema fault '{self.kind}' is unknown; choose one of {known}")
        if not 0 < self.share <= 1:
            raise UsageError(f"schema fault '{self.kind}': share {self.share:g} must be in (0, 1]")

    @property
    def target(self) -> str:
        return self.column if self.column is not None else FAULT_COLUMNS[self.kind]


Injection = Drift | SchemaFault


@dataclass(frozen=True)
class SimulatorSettings:
    """Size and seed of the simulated world. Raises UsageError when it makes no sense."""

    seed: int = 7
    customers: int = 2_200
    terminals: int = 3_600
    days: int = 60
    """Days in the table; `warm_up_days` more are simulated before them and dropped."""
    warm_up_days: int = 35
    """The longest feature window and the label delay must fit in."""
    start: int = 1_704_067_200
    """Unix time of the first day's midnight (default: Monday, 1 January 2024)."""
    radius: float = 6.0
    """Distance, on a map of 100 x 100, within which a customer visits terminals."""
    injections: tuple[Injection, ...] = field(default=())

    def __post_init__(self) -> None:
        for name, least in (
            ("seed", 0),
            ("customers", 10),
            ("terminals", 20),
            ("days", 1),
            ("warm_up_days", 0),
        ):
            if getattr(self, name) < least:
                value = getattr(self, name)
                raise UsageError(f"simulator: {name} is {value}; give at least {least}")
        for injection in self.injections:
            if not 0 <= injection.at < self.days:
                raise UsageError(
                    f"simulator: {injection.kind} at day {injection.at:g} is outside the table's"
                    f" days 0 to {self.days}"
                )
