"""What the predictor tells the sidecar about its bundle: PUT /bundle, read and checked."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.bundle import Contract
from serving.drift.detector import Aspect
from serving.drift.encoding import SCORE, Encoder, Matrix
from serving.errors import DataError

# These become parts of event sources and headers: nothing that would need escaping there.
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)]


class DriftConfig(BaseModel):
    """drift/config.json of a bundle."""

    model_config = ConfigDict(frozen=True)

    detector: Literal["tabular"]
    p_value: float = Field(gt=0, lt=1)
    """Probability of a false opened event over all windows tested against one reference."""
    window: int = Field(ge=20)
    features: tuple[str, ...] | None = None
    """What is compared, besides the score; none given: every feature of the contract."""
    usual: dict[str, dict[Aspect, float]] = Field(default_factory=dict)
    """By column and aspect: the largest effect in the training period's own windows."""


class _Body(BaseModel):
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    arm: Token
    model: Token
    contract: Contract
    config: DriftConfig
    reference: str


@dataclass(frozen=True)
class Introduction:
    """A bundle as the sidecar knows it."""

    digest: str
    arm: str
    model: str
    config: DriftConfig
    encoder: Encoder
    reference: Matrix
    """[rows, len(encoder.columns)]"""
    reference_digest: str
    """sha256 of the bundle's drift/reference.npz"""

    def same_as(self, other: Introduction) -> bool:
        mine = (self.digest, self.arm, self.model, self.reference_digest)
        return mine == (other.digest, other.arm, other.model, other.reference_digest)


def read_introduction(body: bytes, window_rows: int = 0) -> Introduction:
    """Reads the JSON of PUT /bundle; `window_rows` above 0 replaces the config's window.

    Raises DataError naming the field.
    """
    try:
        parsed = _Body.model_validate(orjson.loads(body))
        packed = base64.b64decode(parsed.reference, validate=True)
    except orjson.JSONDecodeError as error:
        raise DataError(f"the bundle is not JSON: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the bundle"
        raise DataError(f"{where}: {first['msg']}") from None
    except ValueError as error:
        raise DataError(f"reference: not base64: {error}") from None
    config = parsed.config
    if window_rows:
        config = config.model_copy(update={"window": window_rows})
    arrays = read_arrays(packed)
    encoder = build_encoder(parsed.contract, config, arrays)
    score = arrays.pop(SCORE, None)
    reference = encoder.encode(arrays, score)
    if len(reference) < config.window:
        raise DataError(
            f"reference: {len(reference)} rows are fewer than the window's {config.window};"
            " give a smaller window or a larger reference"
        )
    return Introduction(
        digest=parsed.digest,
        arm=parsed.arm,
        model=parsed.model,
        config=config,
        encoder=encoder,
        reference=reference,
        reference_digest=hashlib.sha256(packed).hexdigest(),
    )


def build_encoder(
    contract: Contract, config: DriftConfig, arrays: Mapping[str, NDArray[Any]]
) -> Encoder:
    """The encoder of a bundle: the score is watched when the reference has one."""
    watched = contract.feature_names if config.features is None else config.features
    return Encoder(contract, watched, score=SCORE in arrays)


def read_arrays(packed: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz without pickles. Raises DataError."""
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"reference: not an .npz of plain arrays: {error}") from None
