"""plan.yaml: how a canary is led to promotion, and how sure one must be on the way."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from serving.errors import ManifestError, UsageError
from serving.rollout.documents import read_documents
from serving.rollout.state import NAME

FORMAT: Literal["seatrial.rollout/1"] = "seatrial.rollout/1"
PLAN_FILE = "plan.yaml"

_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)
Rate = Annotated[float, Field(gt=0, lt=0.5)]
Share = Annotated[float, Field(gt=0, le=1)]
Tolerance = Annotated[float, Field(gt=1, le=10)]


class Errors(BaseModel):
    """Requests that the arm itself failed."""

    model_config = _STRICT

    kind: Literal["errors"]
    max_rate: Rate
    """The SLO: the highest rate with which a canary may be promoted on its own account."""
    alpha_share: Share | None = None
    """This metric's part of alpha; what the metrics leave unsaid is divided equally."""


class Latency(BaseModel):
    """Requests answered later than the SLO's bound."""

    model_config = _STRICT

    kind: Literal["latency"]
    slo_seconds: Annotated[float, Field(gt=0, le=60)]
    """The bound; it must be an edge of the predictors' latency buckets."""
    max_rate: Rate
    alpha_share: Share | None = None


class Labels(BaseModel):
    """Predictions that turned out wrong, compared between cohorts of equal age."""

    model_config = _STRICT

    kind: Literal["labels"]
    mature_days: Annotated[int, Field(ge=0, le=365)]
    """Age from which a cohort's labels are complete; younger ones are not counted."""
    max_rate: Rate
    alpha_share: Share | None = None


class Scores(BaseModel):
    """The distribution of scores over stable's deciles."""

    model_config = _STRICT

    kind: Literal["scores"]
    tolerance: Tolerance
    """Largest odds ratio by which a decile may grow or shrink; an honest retrain stays within."""
    alpha_share: Share | None = None


class Decisions(BaseModel):
    """The mix of decisions."""

    model_config = _STRICT

    kind: Literal["decisions"]
    tolerance: Tolerance
    alpha_share: Share | None = None


Metric = Annotated[Errors | Latency | Labels | Scores | Decisions, Field(discriminator="kind")]
RateMetric = Errors | Latency | Labels
ShiftMetric = Scores | Decisions


class Sticky(BaseModel):
    """A user keeps the arm that the hash of this header gave; only local gateways can do it."""

    model_config = _STRICT

    header: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]


class Plan(BaseModel):
    """Raises pydantic's ValidationError; `read_plan` turns that into one sentence."""

    model_config = _STRICT

    format: Literal["seatrial.rollout/1"] = FORMAT
    canary: Annotated[str, Field(pattern=f"^{NAME.pattern}$", max_length=63)]
    """predictor.name of the canary that the plan is for."""
    steps: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(
        (10, 25, 50, 100), min_length=1, max_length=20, strict=False
    )
    """Canary shares in percent, rising. A last step of 100 asks for the absolute proof."""
    metrics: tuple[Metric, ...] = Field(min_length=1, max_length=10, strict=False)
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Chance of rolling back a good canary, at most, over the whole run."""
    beta: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Chance of promoting a bad canary, at most: one psi_max times worse and outside its SLO."""
    psi_max: Annotated[float, Field(gt=1, le=10)] = 2.0
    """Odds ratio to stable from which a canary is bad."""
    min_seconds: Annotated[float, Field(ge=0)] = 300.0
    """Shortest stay at every step, counted from when the data plane gives the canary its share."""
    min_requests: Annotated[int, Field(ge=0)] = 100
    """Fewest canary requests at every step."""
    look_seconds: Annotated[float, Field(ge=0.2, le=3600)] = 60.0
    time_cap_seconds: Annotated[float, Field(gt=0)] = 86_400.0
    """Longest run up to promotion, pauses not counted; then 0 % and a person is asked."""
    cleanup_seconds: Annotated[float, Field(ge=0)] = 300.0
    """How long the old stable stays warm after promotion."""
    approvals: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field((), strict=False)
    """Steps that are entered only after a person approved them."""
    max_restarts: Annotated[int, Field(ge=0, le=100)] = 2
    """Container restarts of the canary above which it is in a crash loop."""
    remove_after_rollback: bool = False
    """Whether a canary that was rolled back is removed once it is dark."""
    dispersion: Annotated[float, Field(ge=1, le=1000)] | Literal["estimate"] = "estimate"
    """Failures that come together count as one: mean burst size, or estimated while running."""
    sticky: Sticky | None = None

    @model_validator(mode="after")
    def _contradicts_nothing(self) -> Plan:
        for problem in self._contradictions():
            raise ValueError(problem)
        return self

    def _contradictions(self) -> Iterator[str]:
        steps = self.steps
        if any(after <= before for before, after in pairwise(steps)):
            yield f"steps: {list(steps)} do not rise; list each share once, smallest first"
        for step in self.approvals:
            if step not in steps:
                yield f"approvals: {step} is no step; name one of {list(steps)}"
        for kind, count in Counter(metric.kind for metric in self.metrics).items():
            if count > 1:
                yield f"metrics: '{kind}' is listed {count} times; list a metric once"
        given = [m.alpha_share for m in self.metrics if m.alpha_share is not None]
        if sum(given) > 1 + 1e-9:
            yield f"metrics: alpha_share sums to {sum(given):g}; 1 is the most"
        if len(given) < len(self.metrics) and sum(given) > 1 - 1e-9:
            left = next(m.kind for m in self.metrics if m.alpha_share is None)
            yield f"metrics: alpha_share sums to 1 and leaves '{left}' nothing; lower the others"
        least = self.min_seconds * len(steps)
        if least >= self.time_cap_seconds:
            yield (
                f"time_cap_seconds: {self.time_cap_seconds:g} is not above the {least:g} that"
                f" {len(steps)} steps of min_seconds {self.min_seconds:g} take; raise it"
            )
        if self.look_seconds > self.time_cap_seconds:
            yield (
                f"look_seconds: {self.look_seconds:g} is longer than time_cap_seconds"
                f" {self.time_cap_seconds:g}; look more often"
            )
        for metric in self.metrics:
            if isinstance(metric, ShiftMetric) and steps[0] == 100:
                yield (
                    f"steps: {list(steps)} leaves stable no traffic to compare '{metric.kind}'"
                    " with; begin below 100"
                )

    @property
    def digest(self) -> str:
        """Hex sha256 of the plan with every default filled in."""
        return _digest(self)

    def canonical_json(self) -> str:
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = self.model_dump(mode="json")
        return found

    def alpha_of(self, kind: str) -> float:
        """The metric's part of alpha. Raises KeyError when the plan has no such metric."""
        shares: dict[str, float | None] = {m.kind: m.alpha_share for m in self.metrics}
        share = shares[kind]
        if share is None:
            free = [s for s in shares.values() if s is None]
            share = (1 - sum(s for s in shares.values() if s is not None)) / len(free)
        return self.alpha * share

    def metric(self, kind: str) -> Errors | Latency | Labels | Scores | Decisions | None:
        return next((m for m in self.metrics if m.kind == kind), None)

    @property
    def slo_seconds(self) -> float | None:
        """The latency bound that `slow` counts against, if the plan has one."""
        found = self.metric("latency")
        return found.slo_seconds if isinstance(found, Latency) else None


@lru_cache(maxsize=64)
def _digest(plan: Plan) -> str:
    return hashlib.sha256(plan.canonical_json().encode()).hexdigest()


def parse_plan(found: object, source: object) -> Plan:
    """The plan in a plain document. Raises ManifestError naming `source`, field and value."""
    try:
        return Plan.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        raise ManifestError(f"{source}: {_sentence(first)}") from None


def read_plan(path: Path) -> Plan:
    """Reads a plan.yaml (or the folder's). Raises ManifestError."""
    file = path / PLAN_FILE if path.is_dir() else path
    documents = read_documents(file)
    if len(documents) != 1:
        raise ManifestError(f"{file}: {len(documents)} documents; a plan is one")
    if documents[0].get("format") != FORMAT:
        raise ManifestError(
            f"{file}: format is {documents[0].get('format')!r}; write 'format: {FORMAT}'"
        )
    return parse_plan(documents[0], file)


def check_actuator(plan: Plan, actuator: str) -> None:
    """Raises UsageError when the actuator's data plane lacks what the plan asks for."""
    if plan.sticky is not None and actuator != "local":
        raise UsageError(
            f"sticky.header '{plan.sticky.header}': KServe's routes cannot keep a user on one arm"
            f" and the actuator is '{actuator}'; remove 'sticky' or use the local player"
        )


def check_latency_edge(plan: Plan, edges: tuple[float, ...]) -> None:
    """Raises ManifestError when slo_seconds falls between two buckets of the predictors."""
    bound = plan.slo_seconds
    if bound is not None and bound not in edges:
        known = ", ".join(f"{edge:g}" for edge in edges)
        raise ManifestError(
            f"slo_seconds {bound:g} is no edge of the latency buckets; choose one of {known}"
        )


def _sentence(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    # A metric's place in the discriminated union shows as its kind; the index says enough.
    kinds = {"errors", "latency", "labels", "scores", "decisions"}
    where = ""
    for i, part in enumerate(error["loc"]):
        if isinstance(part, int):
            where += f"[{part}]"
        elif not (part in kinds and i == 2):
            where += f".{part}" if where else str(part)
    if error["type"] == "value_error":
        return message
    if error["type"] == "missing":
        return f"field '{where}' is missing; write it"
    if error["type"] == "extra_forbidden":
        return f"field '{where}' is unknown; remove it or correct its name"
    if error["type"] == "union_tag_invalid":
        return (
            f"field '{where}.kind' is {error['ctx']['tag']!r}; write one of"
            f" {', '.join(sorted(kinds))}"
        )
    if error["type"] == "union_tag_not_found":
        return f"field '{where}.kind' is missing; write one of {', '.join(sorted(kinds))}"
    value = repr(error.get("input"))
    value = value if len(value) <= 60 else value[:57] + "..."
    return f"field '{where or 'the plan'}' is {value}: {message[:1].lower()}{message[1:]}"
