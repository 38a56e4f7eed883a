"""The contract: what a model's rows look like and what its score means."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

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
    sensitive: bool = False
    """Values of this feature are masked wherever rows are shown to people."""
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
    fallback: Decision | None = None
    """For rows that no rule decides while the model fails or exceeds its time budget; without one
    they are answered as errors."""


class Rule(_Strict):
    """A hard rule on one raw numeric feature; the first that holds decides without the model."""

    feature: Name
    op: Literal["<", "<=", ">", ">="]
    value: float
    decision: Decision
    reason: str


class Cost(_Strict):
    """What one decision costs, by the row's label; a gain is negative.

    An amount of money, or the name of a numeric feature that holds it for each row.
    """

    positive: FiniteFloat | Name = 0.0
    negative: FiniteFloat | Name = 0.0


class Costs(_Strict):
    """The cost matrix: decision by label, in one currency."""

    currency: str = ""
    approve: Cost = Cost()
    review: Cost = Cost()
    decline: Cost = Cost()


Measure = Literal[
    "roc_auc",
    "average_precision",
    "recall_at_fpr",
    "precision_at_capacity",
    "log_loss",
    "calibration_error",
    "cost_per_row",
]


class Gate(_Strict):
    """What a model must reach on the test slice before it becomes a bundle."""

    measure: Measure
    min: float | None = None
    max: float | None = None
    not_worse_than: Literal["champion", "baseline"] | None = None
    """Whom it must not be proven worse than: the 95 % interval of the paired difference. Without a
    champion there is nothing to compare with, and the gate is passed."""
    margin: float = Field(default=0.0, ge=0)
    """How much worse it may be, in units of the measure."""
    on_failure: Literal["fail", "warn"] = "fail"


class Evaluation(_Strict):
    """How a model of this contract is judged."""

    false_positive_rate: float = Field(default=0.01, gt=0, lt=1)
    """The rate at which recall is measured."""
    review_capacity: float = Field(default=0.01, gt=0, le=1)
    """Share of all rows, highest scores first, that people can look at."""
    costs: Costs | None = None
    segments: tuple[Name, ...] = ()
    """Features by whose values the measures are repeated."""
    gates: tuple[Gate, ...] = ()

    def contradictions(self, features: Mapping[str, Feature]) -> Iterator[str]:
        for name in self.segments:
            if name not in features:
                yield f"evaluation: segment '{name}' is not a feature"
        costs = self.costs
        for cost in (costs.approve, costs.review, costs.decline) if costs else ():
            for amount in (cost.positive, cost.negative):
                if isinstance(amount, str):
                    yield from self._amount_problems(amount, features.get(amount))
        for gate in self.gates:
            asked = [gate.min, gate.max, gate.not_worse_than]
            if asked.count(None) != len(asked) - 1:
                yield (
                    f"evaluation: gate on {gate.measure} needs one of min, max and not_worse_than"
                )
            if gate.measure == "cost_per_row" and costs is None:
                yield "evaluation: gate on cost_per_row needs costs"

    @staticmethod
    def _amount_problems(name: str, feature: Feature | None) -> Iterator[str]:
        if feature is None or feature.dtype == "string":
            yield f"evaluation: cost '{name}' is neither a number nor a numeric feature"
        elif feature.nullable:
            yield f"evaluation: cost '{name}' may be missing; name a feature that is not nullable"


Level = Literal["ignore", "warn", "fail"]


class Checks(_Strict):
    """What the validate step does when a table satisfies its schema and is suspect all the same."""

    duplicates: Level = "warn"
    """Rows that repeat another in every column."""
    time_order: Level = "warn"
    """Rows that lie before an earlier one of the file."""
    label_rate: Level = "warn"
    """A slice whose share of positives is far from that of the rows before it."""
    leakage: Level = "warn"
    """A feature that alone nearly equals the label."""
    shift: Level = "warn"
    """A feature distributed otherwise than in the parent bundle's drift reference."""


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
    outputs: tuple[Literal["score", "raw_score"], ...] = ("score",)
    """What the graph gives: `score`, the calibrated probability that decisions are made by, and on
    request `raw_score`, the model's own before calibration."""
    checks: Checks = Checks()
    decision: Thresholds
    rules: tuple[Rule, ...] = ()
    evaluation: Evaluation = Evaluation()
    intended_use: str = ""
    """For the model card: what the model is for, and who uses its answers."""
    limits: tuple[str, ...] = ()
    """For the model card: where it must not be used, and what it does not know."""
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
        if "score" not in self.outputs or len(set(self.outputs)) < len(self.outputs):
            yield f"outputs {', '.join(self.outputs)}: list 'score', and each output once"
        if self.decision.review > self.decision.decline:
            yield (
                f"decision: review {self.decision.review:g} is above decline"
                f" {self.decision.decline:g}"
            )
        numeric = {f.name for f in self.features if f.dtype != "string"}
        for rule in self.rules:
            if rule.feature not in numeric:
                yield f"rule '{rule.reason}': '{rule.feature}' is not a numeric feature"
        yield from self.evaluation.contradictions({f.name: f for f in self.features})
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
