"""Numbered and categorical columns, and seeded rows of them."""

from __future__ import annotations

import numpy as np

from serving.drift.encoding import Column, Matrix

CATEGORIES = ("a", "b", "c", "d")
COLUMNS = (
    *(Column(f"x{i}", "number") for i in range(6)),
    Column("kind", "category", categories=CATEGORIES),
    Column("score", "number", "score"),
)
KIND = 6


def rows(count: int, seed: int, correlation: float = 0.0) -> Matrix:
    """[count, 8]: normal numbers, a category, and a score in 0..1."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(count, 1))
    own = rng.normal(size=(count, 6))
    numbers = np.sqrt(1 - correlation) * own + np.sqrt(correlation) * common
    kinds = rng.choice(4, size=count, p=[0.5, 0.3, 0.195, 0.005]).astype(np.float64)
    return np.asfortranarray(np.column_stack([numbers, kinds, rng.beta(1, 9, size=count)]))
