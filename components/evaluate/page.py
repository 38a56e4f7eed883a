"""The evaluation as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from components.evaluate.charts import bars, square
from serving.bundle import Contract

SHOWN_FEATURES = 25
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c2733;max-width:1180px;margin:2rem auto;
padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .8rem .25rem 0;text-align:right;border-bottom:1px solid #dde3e9}
td{vertical-align:top}th:first-child,td:first-child{text-align:left}th{font-weight:600;color:#516173}
.range{color:#516173;font-size:.8em;display:block;white-space:nowrap}.charts{display:flex;flex-wrap:wrap;gap:.5rem}
.scroll{overflow-x:auto}.pass{color:#1b6e3c}.fail{color:#b3261e;font-weight:600}
svg{max-width:100%;height:auto}.frame{fill:none;stroke:#c3ccd5}.even{fill:none;stroke:#c3ccd5;
stroke-dasharray:4 4}.curve{fill:none;stroke:#1f5fa8;stroke-width:2}.dot,.bar{fill:#1f5fa8}
.spread{stroke:#1c2733;stroke-width:1.2}.title{font:600 13px system-ui;text-anchor:middle}
.tick{font:11px system-ui;fill:#516173;text-anchor:middle}.end{text-anchor:end}
.start{text-anchor:start}
"""
TITLES = {
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "recall_at_fpr": "recall at {rate:.3g} % false positives",
    "precision_at_capacity": "precision in the top {share:.3g} % of rows",
    "log_loss": "log loss",
    "calibration_error": "calibration error (ECE)",
    "cost_per_row": "cost per row{currency}",
}


def titles(contract: Contract) -> dict[str, str]:
    """What the measures are called under this contract, in the order they are shown."""
    judged = contract.evaluation
    currency = judged.costs.currency if judged.costs else ""
    return {
        name: title.format(
            rate=100 * judged.false_positive_rate,
            share=100 * judged.review_capacity,
            currency=f" ({currency})" if currency else "",
        )
        for name, title in TITLES.items()
        if name != "cost_per_row" or judged.costs
    }


def page(contract: Contract, metrics: dict[str, Any]) -> str:
    """HTML of metrics.json, importance included. Equal metrics give equal text."""
    named = titles(contract)
    rows, curves = metrics["rows"], metrics["curves"]
    weighted = f", weights by {escape(contract.weight)}" if contract.weight else ""
    about = (
        f"<p>{rows['test']} test rows, the latest of {sum(rows.values())}; share of positives"
        f" {metrics['metrics']['positive_share']:.4%}. Ranges are 95 % by bootstrap{weighted}.</p>"
    )
    parts = [
        f"<h1>Evaluation of {escape(contract.name)}</h1>",
        f"<p>{escape(contract.description)}</p>" if contract.description else "",
        about,
        _gates(metrics["gates"]),
        "<h2>Measures</h2>",
        _measures(named, metrics),
        '<div class="charts">',
        square("ROC", "false positive rate", "recall", curves["roc"], diagonal=True),
        square("Precision and recall", "recall", "precision", curves["pr"]),
        _reliability(curves["calibration"]),
        "</div>",
        "<h2>Decisions</h2>",
        _decisions(contract, metrics),
        "<h2>By time</h2>",
        _slices(named, metrics["time_slices"]),
    ]
    for name, values in metrics["segments"].items():
        parts += [f"<h2>By {escape(name)}</h2>", _slices(named, values)]
    parts += [
        "<h2>What each feature contributes</h2>",
        "<p>Loss of ROC AUC when the feature's values are shuffled, mean and spread.</p>",
        bars(
            "feature importance",
            [
                (one["feature"], one["loss"], one["spread"])
                for one in metrics["importance"][:SHOWN_FEATURES]
            ],
        ),
    ]
    title = f"Evaluation of {escape(contract.name)}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _gates(gates: Iterable[dict[str, Any]]) -> str:
    lines = [
        f'<li class="{"pass" if gate["passed"] else "fail"}">'
        f"{'passed' if gate['passed'] else _failed(gate)}: {escape(gate['sentence'])}</li>"
        for gate in gates
    ]
    return f"<h2>Gates</h2><ul>{''.join(lines)}</ul>" if lines else ""


def _failed(gate: dict[str, Any]) -> str:
    return "failed" if gate["on_failure"] == "fail" else "failed, a warning only"


def _measures(named: dict[str, str], metrics: dict[str, Any]) -> str:
    rivals = [(one["model"], one) for one in metrics["baselines"]]
    champion = metrics["champion"]
    if champion is not None:
        rivals.insert(0, (f"champion {champion['digest'][:12]}", champion))
    head = ["measure", "model", *(cell for name, _ in rivals for cell in (name, "better by"))]
    body = []
    for key, title in named.items():
        line = [title, _number(metrics["metrics"][key], metrics["intervals"][key])]
        for _, rival in rivals:
            gain = rival["gains"][key]
            line += [_number(rival["metrics"][key]), _number(gain["gain"], gain["interval"])]
        body.append(line)
    return _table(head, body)


def _reliability(points: list[list[float]]) -> str:
    """Both axes end at the largest value: rare positives would sit in a corner otherwise."""
    most = max((value for point in points for value in point[:2]), default=0.0) or 1.0
    shown = [[mean / most, rate / most] for mean, rate, _ in points]
    across = f"mean score, 1 = {most:.3g}"
    return square("Reliability", across, "rate of positives", shown, dots=True, diagonal=True)


def _decisions(contract: Contract, metrics: dict[str, Any]) -> str:
    taken = metrics["decisions"]
    body = [
        [name, f"{taken[name]['share']:.3%}", f"{taken[name]['positives']:.2%}"]
        for name in ("approve", "review", "decline")
    ]
    at = contract.decision
    return (
        f"<p>Review from {at.review:g}, decline from {at.decline:g}; {len(contract.rules)} rules"
        f" come first.</p>{_table(['decision', 'of rows', 'of positives'], body)}"
    )


def _slices(named: dict[str, str], entries: list[dict[str, Any]]) -> str:
    head = ["", "rows", "of all", "positives", *named.values()]
    champion = any("champion" in entry for entry in entries)
    if champion:
        head.append("champion's average precision")
    body = []
    for entry in entries:
        line = [entry["name"], str(entry["rows"]), f"{entry['share']:.1%}"]
        line.append(f"{entry['positive_share']:.3%}")
        line += [_number(entry["metrics"][key], entry["intervals"].get(key)) for key in named]
        if champion:
            line.append(_number(entry["champion"]["average_precision"]))
        body.append(line)
    return _table(head, body)


def _number(value: float | None, bounds: Sequence[float] | None = None) -> str:
    shown = "–" if value is None else f"{value:.4f}"
    return shown if bounds is None else f"{shown}\t{bounds[0]:.4f} to {bounds[1]:.4f}"


def _table(head: list[str], body: list[list[str]]) -> str:
    def cell(text: str) -> str:
        value, _, bounds = text.partition("\t")
        shown = f' <span class="range">{escape(bounds)}</span>' if bounds else ""
        return f"<td>{escape(value)}{shown}</td>"

    top = "".join(f"<th>{escape(text)}</th>" for text in head)
    rows = "".join(f"<tr>{''.join(map(cell, line))}</tr>" for line in body)
    return f'<div class="scroll"><table><tr>{top}</tr>{rows}</table></div>'
