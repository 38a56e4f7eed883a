"""drift/config.json of a bundle: which detectors are on, and what the training period taught them.

`watch` and `windows` are each on when given and off when null or absent.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from serving.drift.detector import Aspect
from serving.errors import DataError

DetectorName = Literal["tabular", "ks", "chi2", "mmd"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WatchConfig(_Strict):
    """The always-on watch."""

    tolerance: dict[str, dict[Aspect, tuple[float, ...]]] = Field(default_factory=dict)
    """By column and aspect: what each bet pays per row, in nats, so that the training period's
    own rows, in their order, leave the watch silent. Absent: nothing. See watch.tolerance."""


class WindowsConfig(_Strict):
    """Tests of tumbling windows: of `size` rows, or of the rows of `seconds` seconds."""

    detector: DetectorName
    p_value: float = Field(gt=0, lt=1)
    """Probability of a false opened event over all windows tested against one reference."""
    size: int | None = Field(default=None, ge=20)
    seconds: float | None = Field(default=None, gt=0)
    usual: dict[str, dict[Aspect, float]] = Field(default_factory=dict)
    """By column and aspect: the largest effect in the training period's own windows."""

    @model_validator(mode="after")
    def _one_length(self) -> WindowsConfig:
        if (self.size is None) == (self.seconds is None):
            raise ValueError("give either 'size' in rows or 'seconds'")
        return self


class DriftConfig(_Strict):
    """What drift/config.json holds. Unknown fields are refused, `trial` is for people."""

    features: tuple[str, ...] | None = None
    """What is compared, besides score and decision; none given: every feature of the contract."""
    watch: WatchConfig | None = None
    windows: WindowsConfig | None = None
    trial: dict[str, float] = Field(default_factory=dict)

    def to_json(self) -> str:
        data = self.model_dump(mode="json", exclude_none=True)
        return json.dumps(data, indent=2, sort_keys=True) + "\n"


def parse_config(text: str | bytes, source: str) -> DriftConfig:
    """Raises DataError naming `source` and the field."""
    try:
        return DriftConfig.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise DataError(f"{source}: {where + ': ' if where else ''}{message}") from None
