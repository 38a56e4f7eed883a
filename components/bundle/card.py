"""The model card: what the bundle's facts say, for a person."""

from __future__ import annotations

from typing import Any

from serving.bundle import Contract


def model_card(contract: Contract, metrics: dict[str, Any], lineage: dict[str, Any]) -> str:
    """Markdown; equal facts give equal text."""
    measured, intervals = metrics["metrics"], metrics["intervals"]
    rows, baseline = metrics["rows"], metrics["baseline"]
    decided = metrics["decisions"]

    def line(title: str, name: str) -> str:
        low, high = intervals[name]
        return (
            f"| {title} | {measured[name]:.4f} | {low:.4f} to {high:.4f} | {baseline[name]:.4f} |"
        )

    features = "\n".join(
        f"| {f.name} | {f.dtype} | {'yes' if f.nullable else 'no'} | {f.description} |"
        for f in contract.features
    )
    return f"""# {contract.name}

{contract.description or "No description in the contract."}

A PyTorch network with its preprocessing, exported to ONNX: raw columns in, a probability out.
Trained on `{lineage["source"]}` with seed {lineage["seed"]}.

| slice | rows |
|---|---|
| train | {rows["train"]} |
| validation | {rows["validation"]} |
| test | {rows["test"]} |

## On the test slice

The latest rows, seen neither in training nor in stopping. Intervals are 95 % by bootstrap.

| measure | model | interval | {baseline["model"]} |
|---|---|---|---|
{line("ROC AUC", "roc_auc")}
{line("average precision", "average_precision")}

Log loss {measured["log_loss"]:.5f}, calibration error {measured["calibration_error"]:.5f},
share of positives {measured["positive_share"]:.5f}.

## Decisions

Review from {contract.decision.review:g}, decline from {contract.decision.decline:g};
{len(contract.rules)} hard rules come first.

| decision | rows | positives |
|---|---|---|
| approve | {decided["approve"]["share"]:.2%} | {decided["approve"]["positives"]:.2%} |
| review | {decided["review"]["share"]:.2%} | {decided["review"]["positives"]:.2%} |
| decline | {decided["decline"]["share"]:.2%} | {decided["decline"]["positives"]:.2%} |

## Features

| name | type | may be missing | meaning |
|---|---|---|---|
{features}

## Lineage

- data `{lineage["data"]}`
- code `{lineage["code"]}`
- parent `{lineage["parent"] or "none"}`
"""
