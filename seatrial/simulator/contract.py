"""The contract of the simulated table."""

from __future__ import annotations

from typing import Any

from seatrial.simulator.features import WINDOW_DAYS
from seatrial.simulator.population import CARD_TYPES, CATEGORIES
from seatrial.simulator.transactions import CHANNELS
from serving.bundle import Contract, Feature, Label, Rule, Thresholds


def contract() -> Contract:
    """What `simulate` gives without schema faults satisfies it."""
    return Contract(
        name="fraud",
        description="Card transactions as known when they happen; the label comes days later.",
        features=(*_transaction(), *_windows()),
        label=Label(column="fraud", available_at="label_time"),
        time="time",
        ignore=("transaction_id", "customer_id", "terminal_id", "scenario"),
        decision=Thresholds(review=0.1, decline=0.5),
        rules=(
            Rule(
                feature="amount",
                op=">=",
                value=10_000,
                decision="decline",
                reason="amount above the card limit",
            ),
            Rule(
                feature="customer_count_1d",
                op=">=",
                value=30,
                decision="review",
                reason="30 transactions within a day",
            ),
        ),
        example=_example(),
    )


def _transaction() -> list[Feature]:
    flag: dict[str, Any] = {"dtype": "int64", "min": 0, "max": 1}
    return [
        Feature(name="amount", dtype="float64", min=0, max=100_000, description="in euros"),
        Feature(name="hour", dtype="int64", min=0, max=23),
        Feature(name="night", **flag, description="1 from midnight to 6"),
        Feature(name="weekend", **flag),
        Feature(name="merchant_category", dtype="string", categories=CATEGORIES),
        Feature(name="channel", dtype="string", categories=CHANNELS),
        Feature(name="card_type", dtype="string", categories=CARD_TYPES),
        Feature(name="card_age_days", dtype="int64", min=0, description="since the card's issue"),
        Feature(
            name="device_age_days",
            dtype="float32",
            nullable=True,
            min=0,
            description="since the device was first seen; online only",
        ),
        Feature(
            name="distance_km",
            dtype="float32",
            nullable=True,
            min=0,
            description="from the customer's home to the shop; missing online",
        ),
    ]


def _windows() -> list[Feature]:
    features: list[Feature] = []
    for days in WINDOW_DAYS:
        features += [
            Feature(name=f"customer_count_{days}d", dtype="int64", min=1),
            Feature(name=f"customer_mean_amount_{days}d", dtype="float32", min=0),
        ]
    for days in WINDOW_DAYS:
        features += [
            Feature(
                name=f"terminal_labels_{days}d",
                dtype="int64",
                min=0,
                description="transactions at the terminal whose label became known in the window",
            ),
            Feature(
                name=f"terminal_risk_{days}d",
                dtype="float32",
                nullable=True,
                min=0,
                max=1,
                description="share of fraud among those; missing where there are none",
            ),
        ]
    return features


def _example() -> dict[str, float | int | str | None]:
    return {
        "amount": 42.5,
        "hour": 18,
        "night": 0,
        "weekend": 0,
        "merchant_category": "groceries",
        "channel": "contactless",
        "card_type": "debit",
        "card_age_days": 700,
        "device_age_days": None,
        "distance_km": 2.4,
        "customer_count_1d": 2,
        "customer_mean_amount_1d": 38.0,
        "customer_count_7d": 12,
        "customer_mean_amount_7d": 40.1,
        "customer_count_30d": 51,
        "customer_mean_amount_30d": 41.7,
        "terminal_labels_1d": 1,
        "terminal_risk_1d": 0.0,
        "terminal_labels_7d": 8,
        "terminal_risk_7d": 0.0,
        "terminal_labels_30d": 33,
        "terminal_risk_30d": 0.03,
    }
