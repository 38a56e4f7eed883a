"""What every model reads: the contract's numbers as one matrix, its texts as codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serving.bundle import Contract, Feature
from serving.bundle.rows import Columns

Values = NDArray[np.float64]
Codes = NDArray[np.int64]
MISSING, UNSEEN, FIRST_CATEGORY = 0, 1, 2
"""Codes of a text column: no value, a value outside the list, then the categories in order."""


def numeric_features(contract: Contract) -> list[Feature]:
    return [f for f in contract.features if f.dtype != "string"]


def text_features(contract: Contract) -> list[Feature]:
    return [f for f in contract.features if f.dtype == "string"]


def codes_of(feature: Feature) -> dict[str, int]:
    """The code of every text a feature may hold; any other text is UNSEEN."""
    codes = dict.fromkeys(("", *feature.missing), MISSING)
    return codes | {c: FIRST_CATEGORY + i for i, c in enumerate(feature.categories or ())}


def code_counts(contract: Contract) -> list[int]:
    """How many codes each text feature has."""
    return [FIRST_CATEGORY + len(f.categories or ()) for f in text_features(contract)]


def matrices(contract: Contract, columns: Columns) -> tuple[Values, Codes]:
    """Canonical columns to float64 [rows, numbers] with NaN for missing, and int64 [rows, texts].

    The exported graph computes the same two matrices from raw columns.
    """
    rows = len(columns[contract.features[0].name])
    values = np.empty((rows, len(numeric_features(contract))), dtype=np.float64)
    for i, feature in enumerate(numeric_features(contract)):
        values[:, i] = columns[feature.name]
    codes = np.empty((rows, len(text_features(contract))), dtype=np.int64)
    for i, feature in enumerate(text_features(contract)):
        known = codes_of(feature)
        texts: Any = columns[feature.name]
        position, distinct = pd.factorize(texts)
        lookup = np.array([known.get(text, UNSEEN) for text in distinct], dtype=np.int64)
        codes[:, i] = lookup[position]
    return values, codes
