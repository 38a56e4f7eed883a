"""What the predictor tells the sidecar about its bundle: PUT /bundle, read and checked."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from serving.bundle import Contract
from serving.drift.config import DriftConfig, parse_config
from serving.drift.encoding import DECISION, SCORE, Encoder, Matrix
from serving.errors import DataError

# These become parts of event sources and headers: nothing that would need escaping there.
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)]


class _Body(BaseModel):
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    arm: Token
    model: Token
    contract: Contract
    config: dict[str, Any]
    reference: str
    metrics: dict[str, Any] | None = None


@dataclass(frozen=True)
class Introduction:
    """A bundle as the sidecar knows it."""

    digest: str
    arm: str
    model: str
    contract: Contract
    config: DriftConfig
    encoder: Encoder
    reference: Matrix
    """[rows, len(encoder.columns)]"""
    reference_digest: str
    """sha256 of the bundle's drift/reference.npz"""
    metrics: Mapping[str, Any] | None = None
    """The bundle's metrics.json: what labels are judged by."""

    @property
    def identity(self) -> dict[str, Any]:
        """What a state must have been made for to be taken up again."""
        return {
            "bundle": self.digest,
            "reference": self.reference_digest,
            "arm": self.arm,
            "model": self.model,
            "columns": [column.name for column in self.encoder.columns],
        }

    def same_as(self, other: Introduction) -> bool:
        mine = (self.digest, self.arm, self.model, self.reference_digest)
        return mine == (other.digest, other.arm, other.model, other.reference_digest)


def read_introduction(body: bytes, outputs: Collection[str] = (SCORE, DECISION)) -> Introduction:
    """Reads the JSON of PUT /bundle; `outputs` are what rows come with.

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
    config = parse_config(orjson.dumps(parsed.config), "config")
    return introduce(
        digest=parsed.digest,
        arm=parsed.arm,
        model=parsed.model,
        contract=parsed.contract,
        config=config,
        packed=packed,
        metrics=parsed.metrics,
        outputs=outputs,
    )


def introduce(
    *,
    digest: str,
    arm: str,
    model: str,
    contract: Contract,
    config: DriftConfig,
    packed: bytes,
    outputs: Collection[str] = (SCORE, DECISION),
    metrics: Mapping[str, Any] | None = None,
) -> Introduction:
    """`packed` is the bundle's drift/reference.npz; `outputs` are what rows come with.

    Raises DataError for a reference that does not fit.
    """
    arrays = read_arrays(packed)
    for output in (SCORE, DECISION):
        if output not in outputs and output not in contract.feature_names:
            arrays.pop(output, None)
    encoder = build_encoder(contract, config, arrays)
    score, decision = (_output(arrays, name, contract) for name in (SCORE, DECISION))
    reference = encoder.encode(arrays, score, decision)
    if not len(reference):
        raise DataError("reference: it has no rows; give the bundle a larger one")
    return Introduction(
        digest=digest,
        arm=arm,
        model=model,
        contract=contract,
        config=config,
        encoder=encoder,
        reference=reference,
        reference_digest=hashlib.sha256(packed).hexdigest(),
        metrics=metrics,
    )


def build_encoder(
    contract: Contract, config: DriftConfig, arrays: Mapping[str, NDArray[Any]]
) -> Encoder:
    """The encoder of a bundle: score and decision are watched when the reference has them."""
    watched = contract.feature_names if config.features is None else config.features
    score, decision = (
        name in arrays and name not in contract.feature_names for name in (SCORE, DECISION)
    )
    return Encoder(contract, watched, score=score, decision=decision)


def _output(arrays: dict[str, NDArray[Any]], name: str, contract: Contract) -> Any:
    return None if name in contract.feature_names else arrays.pop(name, None)


def read_arrays(packed: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz without pickles. Raises DataError."""
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"reference: not an .npz of plain arrays: {error}") from None
