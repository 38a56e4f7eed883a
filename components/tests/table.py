"""A small table with every kind of column, whose label a network can learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from serving.bundle import Contract

CONTRACT: dict[str, Any] = {
    "name": "small",
    "features": [
        {"name": "amount", "dtype": "float64", "min": 0, "description": "in euros"},
        {"name": "age", "dtype": "float32", "nullable": True},
        {"name": "visits", "dtype": "int64", "min": 0},
        {
            "name": "channel",
            "dtype": "string",
            "nullable": True,
            "missing": ["unknown"],
            "unseen": "map",
            "categories": ["web", "shop", "phone"],
        },
        {"name": "card", "dtype": "string", "categories": ["debit", "credit"]},
    ],
    "label": {"column": "fraud", "available_at": "known_at"},
    "time": "when",
    "weight": "weight",
    "ignore": ["id"],
    "decision": {"review": 0.3, "decline": 0.7},
    "rules": [
        {
            "feature": "amount",
            "op": ">",
            "value": 5000,
            "decision": "decline",
            "reason": "amount above 5000",
        }
    ],
}


def small_contract(**changes: Any) -> Contract:
    return Contract.model_validate({**CONTRACT, **changes})


def small_table(rows: int = 3000, seed: int = 0) -> pd.DataFrame:
    """Rows in no order; labels known within 100 s of the event, times from 1.7e9 on."""
    rng = np.random.default_rng(seed)
    amount = rng.lognormal(4, 1, rows)
    age = rng.uniform(18, 90, rows).astype(np.float32)
    age[rng.random(rows) < 0.1] = np.nan
    visits = rng.poisson(3, rows)
    channel = rng.choice(["web", "shop", "phone", "unknown"], rows)
    card = rng.choice(["debit", "credit"], rows)
    logit = np.log(amount) - 5.5 + np.where(channel == "web", 1.5, 0) - visits / 3
    logit += np.where(np.isnan(age), 1.0, (age - 50) / 30)
    fraud = rng.random(rows) < 1 / (1 + np.exp(-logit))
    when = 1.7e9 + rng.permutation(rows)
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "when": when,
            "amount": amount,
            "age": age,
            "visits": visits,
            "channel": channel,
            "card": card,
            "weight": np.where(fraud, 1.0, 2.0).astype(np.float32),
            "fraud": fraud.astype(np.int8),
            "known_at": when + rng.uniform(0, 100, rows),
        }
    )
