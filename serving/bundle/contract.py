"""The contract: what a model's rows look like and what its score means."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from serving.errors import ContractError, FileError

FORMAT = "seatrial.contract/1"
Dtype = Literal["float32", "float64", "int64", "string"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.\-]*$", max_length=128)]
Decision = Literal["approve", "review", "decline"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Feature(_Strict):
    """One input column. Missing is NaN for floats, the empty string for text."""

    name: Name
    dtype: Dtype
    nullable: bool = False
    min: float | None = None
    max: float | None = None
    categories: tuple[str, ...] | None = None
    unseen: Literal["reject", "map"] = "reject"
    """A category outside the list: refuse the row, or map it to the model's "unseen" category."""
    missing: tuple[str, ...] = ()
    """Texts that mean "missing" besides the empty one (for example "unknown")."""
    description: str = ""

    def contradictions(self) -> Iterator[str]:
        problems = self._text_problems() if self.dtype == "string" else self._number_problems()
        for problem in problems:
            yield f"feature '{self.name}': {problem}"

    def _text_problems(self) -> Iterator[str]:
        if self.min is not None or self.max is not None:
            yield "min and max are for numbers, its dtype is string"
        if not self.categories:
            yield "a string feature needs a non-empty list of categories"
        for value, count in Counter(self.categories or ()).items():
            if count > 1:
                yield f"category '{value}' is listed {count} times"
            if value == "" or value in self.missing:
                yield f"'{value}' means missing and cannot be a category too"
        if self.missing and not self.nullable:
            yield f"'missing' lists '{self.missing[0]}' but nullable is false"

    def _number_problems(self) -> Iterator[str]:
        if self.categories is not None:
            yield f"categories are for strings, its dtype is {self.dtype}"
        if self.missing:
            yield f"'missing' texts are for strings, its dtype is {self.dtype}"
        if self.dtype == "int64" and self.nullable:
            yield "an int64 has no missing value, declare float64 to make it nullable"
        if self.min is not None and self.max is not None and self.min > self.max:
            yield f"min {self.min:g} is above max {self.max:g}"
        for bound in (self.min, self.max):
            if bound is not None and not math.isfinite(bound):
                yield f"a bound must be finite, leave it out instead of {bound}"


class Label(_Strict):
    column: Name
    positive: int | str = 1
    """The value that means "yes" (fraud, default, subscribed)."""
    available_at: Name | None = None
    """Column with the time a label became known, in the unit of the contract's time column."""


class Thresholds(_Strict):
    """score < review: approve; review <= score < decline: review; else decline."""

    review: float = Field(ge=0, le=1)
    decline: float = Field(ge=0, le=1)


class Rule(_Strict):
    """A hard rule on one raw numeric feature; the first that holds decides without the model."""

    feature: Name
    op: Literal["<", "<=", ">", ">="]
    value: float
    decision: Decision
    reason: str


class Contract(_Strict):
    """Feature names, dtypes, ranges and categories; label, roles of other columns, decisions."""

    format: Literal["seatrial.contract/1"] = "seatrial.contract/1"
    name: Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$", max_length=40)]
    description: str = ""
    features: tuple[Feature, ...] = Field(min_length=1)
    label: Label
    time: Name | None = None
    """Numeric column that orders the rows; without one, rows are in time order as they lie."""
    weight: Name | None = None
    """Column of sampling weights, used in training and in every metric."""
    ignore: tuple[Name, ...] = ()
    """Columns a table may have beside these; any other column is an error."""
    decision: Thresholds
    rules: tuple[Rule, ...] = ()
    example: dict[str, float | int | str | None] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _contradicts_nothing(self) -> Contract:
        problems = list(self.contradictions())
        if problems:
            raise ValueError(problems[0])
        return self

    def contradictions(self) -> Iterator[str]:
        roles = [f.name for f in self.features] + [self.label.column]
        roles += [c for c in (self.label.available_at, self.time, self.weight) if c is not None]
        shared = {self.time} & {f.name for f in self.features}
        for name, count in Counter([*roles, *self.ignore]).items():
            if count > (2 if name in shared else 1):
                yield f"column '{name}' has more than one role"
        for feature in self.features:
            yield from feature.contradictions()
        if self.decision.review > self.decision.decline:
            yield (
                f"decision: review {self.decision.review:g} is above decline"
                f" {self.decision.decline:g}"
            )
        numeric = {f.name for f in self.features if f.dtype != "string"}
        for rule in self.rules:
            if rule.feature not in numeric:
                yield f"rule '{rule.reason}': '{rule.feature}' is not a numeric feature"
        for name in self.example:
            if name not in {f.name for f in self.features}:
                yield f"example: '{name}' is not a feature"

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(f.name for f in self.features)

    def feature(self, name: str) -> Feature:
        """The feature of that name; KeyError if there is none."""
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(name)

    def canonical_json(self) -> str:
        """The text that is stored in bundles: sorted keys, defaults left out."""
        data = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps({"format": FORMAT, **data}, indent=2, sort_keys=True) + "\n"


def parse_contract(text: str, source: str) -> Contract:
    """Raises ContractError naming `source`, the field and the value."""
    try:
        data: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise ContractError(f"{source}: not JSON: {error}; a contract is one JSON object") from None
    try:
        return Contract.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        value = "" if first["type"] == "value_error" else f" (got {_short(first.get('input'))})"
        raise ContractError(f"{source}: {where + ': ' if where else ''}{message}{value}") from None


def load_contract(path: Path) -> Contract:
    """Reads a contract file. Raises FileError or ContractError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise FileError(f"{path}: cannot read the contract: {reason}") from None
    if not text.strip():
        raise FileError(f"{path}: the contract file is empty; a contract is one JSON object")
    return parse_contract(text, str(path))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
