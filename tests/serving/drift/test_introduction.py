from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest

from serving.drift.introduction import read_introduction
from serving.errors import DataError
from tests.serving.drift.stream import (
    CONFIG,
    DIGEST,
    REFERENCE,
    columns,
    introduction,
    reference_bytes,
    sha256,
)


def read(**changes: Any) -> Any:
    return read_introduction(json.dumps(introduction(**changes)).encode())


def test_knows_the_bundle_and_its_reference() -> None:
    known = read()
    assert (known.digest, known.model) == (DIGEST, "tiny")
    assert known.reference.shape == (3000, 5)
    assert known.reference_digest == sha256(REFERENCE)
    assert 0.05 < np.isnan(known.reference[:, 1]).mean() < 0.15


def test_watches_only_the_features_the_config_names() -> None:
    assert [c.name for c in read(config={**CONFIG, "features": ["age"]}).encoder.columns] == [
        "age",
        "score",
    ]


def test_works_with_a_reference_that_has_no_score() -> None:
    rows = columns(500, seed=3)
    del rows["score"]
    packed = base64.b64encode(reference_bytes(rows)).decode()
    assert len(read(reference=packed).encoder.columns) == 4


def packed(**arrays: Any) -> str:
    return base64.b64encode(reference_bytes({**columns(300, seed=3), **arrays})).decode()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"digest": "abc"}, "digest"),
        ({"arm": "a b"}, "arm"),
        ({"model": "x\r\nce-id: 1"}, "model"),
        ({"contract": {}}, "contract.name"),
        ({"config": {"windows": {"detector": "tabular", "p_value": 2, "size": 50}}}, "p_value"),
        ({"config": {"windows": {"detector": "magic", "p_value": 0.1, "size": 50}}}, "detector"),
        ({"config": {"window": 200}}, "config: window"),
        ({"config": {**CONFIG, "features": ["x"]}}, "'x' is not a feature"),
        ({"reference": "!"}, "reference: not base64"),
        ({"reference": base64.b64encode(b"PK").decode()}, "reference: not an .npz"),
        ({"reference": packed(amount=np.array([]))}, "'age' has 300 rows, not 0"),
        ({"reference": packed(extra=np.zeros(300))}, "'extra' is not in the contract"),
        ({"reference": packed(amount=np.array(["1"] * 300))}, "'amount' is <U1"),
    ],
)
def test_names_what_is_wrong_with_a_bundle(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(DataError, match=named):
        read(**changes)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"{}"])
def test_refuses_a_body_that_is_no_bundle(body: bytes) -> None:
    with pytest.raises(DataError):
        read_introduction(body)


def test_reads_no_pickles() -> None:
    pickled = io.BytesIO()
    np.savez(pickled, amount=np.array([{}] * 300, dtype=object))
    with pytest.raises(DataError, match="not an .npz of plain arrays"):
        read(reference=base64.b64encode(pickled.getvalue()).decode())
