"""The model card: what the bundle's facts say, for a person."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from serving.bundle import Contract

MEASURES = {
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "recall_at_fpr": "recall at a false positive rate of {rate:g}",
    "precision_at_capacity": "precision in the top {share:g} of rows",
    "log_loss": "log loss",
    "calibration_error": "calibration error (ECE)",
    "cost_per_row": "cost per row",
}
OF_SEGMENTS = ("roc_auc", "average_precision", "calibration_error")
WHAT = (
    "A model ({family}) with its preprocessing in one ONNX graph: raw columns in, a probability"
    " out. Trained on `{source}` with seed {seed}."
)
HOW = (
    "The latest rows, seen neither in training nor in stopping. Ranges are 95 % by bootstrap;"
    ' "better by" is paired row by row.'
)
SECONDS_FROM = 315_532_800.0
"""1980 as seconds since 1970: times above it and below 2100 are shown as dates too."""
SECONDS_TO = 4_102_444_800.0


def model_card(contract: Contract, metrics: dict[str, Any], lineage: dict[str, Any]) -> str:
    """Markdown; equal facts give equal text."""
    parts = [
        f"# {contract.name}",
        contract.description or "No description in the contract.",
        WHAT.format(
            family=lineage["training"].get("family", "network"),
            source=lineage["source"],
            seed=lineage["seed"],
        ),
        "## Intended use",
        contract.intended_use or "The contract does not say (`intended_use`).",
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(contract, metrics)),
        "## Data",
        _data(contract, metrics, lineage),
        "## On the test slice",
        HOW,
        _measures(contract, metrics),
        f"Share of positives {metrics['metrics']['positive_share']:.5f}.",
        *_gates(metrics),
        "## Decisions",
        _decisions(contract, metrics),
        "## By time",
        _parts(metrics["time_slices"], contract.time or "position"),
    ]
    for name, values in metrics["segments"].items():
        parts += [f"## By {name}", _parts(values, name)]
    parts += ["## Features", _features(contract, metrics), "## Lineage", _lineage(lineage)]
    return "\n\n".join(parts) + "\n"


def _limits(contract: Contract, metrics: dict[str, Any]) -> list[str]:
    """What the contract says, and what its numbers say for themselves."""
    found = list(contract.limits)
    window = metrics["window"]
    if window["to"] is not None:
        found.append(f"It knows nothing after {_moment(contract, window['to'])}.")
    bounded = [f.name for f in contract.features if f.min is not None or f.max is not None]
    if bounded:
        found.append(
            "A row outside the contract's ranges or categories is refused, not scored:"
            f" {', '.join(bounded[:8])}{' and more' if len(bounded) > 8 else ''} have ranges."
        )
    if not metrics["segments"]:
        found.append("It was not measured by segment: the contract names none.")
    found.append("The scores are calibrated for the share of positives of the training window.")
    return found


def _data(contract: Contract, metrics: dict[str, Any], lineage: dict[str, Any]) -> str:
    rows, window = metrics["rows"], metrics["window"]
    lines = [f"| {name} | {rows[name]} |" for name in ("train", "validation", "test")]
    moments = [None if at is None else _moment(contract, at) for at in window.values()]
    said = f"From {moments[0]} to {moments[1]}; the test slice begins at {moments[2]}.\n\n"
    return (said if None not in moments else "") + _table("slice", "rows", lines=lines)


def _moment(contract: Contract, at: float) -> str:
    if contract.time is None:
        return f"row {at:.0f}"
    if SECONDS_FROM <= at < SECONDS_TO:
        return f"{contract.time} {at:.10g} ({datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC)"
    return f"{contract.time} {at:.10g}"


def _measures(contract: Contract, metrics: dict[str, Any]) -> str:
    judged = contract.evaluation
    rivals = [(one["model"], one) for one in metrics["baselines"]]
    if metrics["champion"] is not None:
        rivals.append((f"champion {metrics['champion']['digest'][:12]}", metrics["champion"]))
    lines = []
    for name, title in MEASURES.items():
        if name not in metrics["metrics"]:
            continue
        shown = title.format(rate=judged.false_positive_rate, share=judged.review_capacity)
        cells = [shown, _number(metrics["metrics"][name], metrics["intervals"][name])]
        for _, rival in rivals:
            gain = rival["gains"][name]
            cells += [_number(rival["metrics"][name]), _number(gain["gain"], gain["interval"])]
        lines.append(f"| {' | '.join(cells)} |")
    heads = ["measure", "model", *(h for name, _ in rivals for h in (name, "better by"))]
    return _table(*heads, lines=lines)


def _gates(metrics: dict[str, Any]) -> list[str]:
    lines = [
        f"- {'passed' if gate['passed'] else 'failed, a warning only'}: {gate['sentence']}"
        for gate in metrics["gates"]
    ]
    return ["## Gates", "\n".join(lines)] if lines else []


def _decisions(contract: Contract, metrics: dict[str, Any]) -> str:
    at, taken = contract.decision, metrics["decisions"]
    lines = [
        f"| {name} | {taken[name]['share']:.2%} | {taken[name]['positives']:.2%} |"
        for name in ("approve", "review", "decline")
    ]
    return (
        f"Review from {at.review:g}, decline from {at.decline:g}; {len(contract.rules)} hard rules"
        f" come first.\n\n{_table('decision', 'rows', 'positives', lines=lines)}"
    )


def _parts(entries: list[dict[str, Any]], what: str) -> str:
    lines = []
    for one in entries:
        cells = [str(one["name"]), str(one["rows"]), f"{one['positive_share']:.3%}"]
        cells += [_number(one["metrics"][m], one["intervals"].get(m)) for m in OF_SEGMENTS]
        lines.append(f"| {' | '.join(cells)} |")
    return _table(what, "rows", "positives", *(MEASURES[m] for m in OF_SEGMENTS), lines=lines)


def _features(contract: Contract, metrics: dict[str, Any]) -> str:
    losses = {one["feature"]: one["loss"] for one in metrics.get("importance", ())}
    lines = [
        f"| {f.name} | {f.dtype} | {'yes' if f.nullable else 'no'} | {_number(losses.get(f.name))}"
        f" | {f.description} |"
        for f in contract.features
    ]
    return _table(
        "name", "type", "may be missing", "ROC AUC lost when shuffled", "meaning", lines=lines
    )


def _lineage(lineage: dict[str, Any]) -> str:
    return (
        f"- data `{lineage['data']}`\n- code `{lineage['code']}`\n"
        f"- parent `{lineage['parent'] or 'none'}`"
    )


def _number(value: float | None, bounds: list[float] | None = None) -> str:
    shown = "–" if value is None else f"{value:.4f}"
    return shown if bounds is None else f"{shown} ({bounds[0]:.4f} to {bounds[1]:.4f})"


def _table(*heads: str, lines: list[str]) -> str:
    return "\n".join([f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *lines])
