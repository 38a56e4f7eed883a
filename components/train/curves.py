"""The learning curve and the candidates as one HTML page without any file beside it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 260, 64, 34
STYLE = """body{font:14px/1.5 system-ui,sans-serif;color:#1c2733;max-width:760px;margin:2em auto;
padding:0 1em}table{border-collapse:collapse}th,td{padding:.2em 1em .2em 0;text-align:left}
td+td,th+th{text-align:right;font-variant-numeric:tabular-nums}
tr.chosen{font-weight:600}.grid{stroke:#d5dbe1}.train{stroke:#7b8794}.validation{stroke:#0b6bcb}
polyline{fill:none;stroke-width:2}text{font-size:12px;fill:#52606d}"""


def page(training: dict[str, Any]) -> str:
    """HTML of what training.json says."""
    rows = "".join(
        f"<tr{' class=chosen' if c['family'] == training['family'] else ''}>"
        f"<td>{escape(c['family'])}</td><td>{c['average_precision']:.4f}</td>"
        f"<td>{c['roc_auc']:.4f}</td><td>{c['log_loss']:.4f}</td></tr>"
        for c in training["candidates"]
    )
    refit = (
        "It was then fitted again on all rows before the test slice."
        if training["settings"]["refit"]
        else "It was fitted on the training slice only."
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Training</title>'
        f"<style>{STYLE}</style><h1>Training</h1><h2>Candidates on the validation slice</h2>"
        "<table><tr><th>family</th><th>average precision</th><th>ROC AUC</th><th>log loss</th></tr>"
        f"{rows}</table><p>Bold is the one chosen: the plainest that none's log loss is surely"
        f" smaller than. {refit}</p>"
        f"{_chart(training['curve'], training['best_epoch'])}</html>\n"
    )


def _chart(curve: Sequence[dict[str, Any]], best: int | None) -> str:
    if not curve:
        return "<p>No network was trained.</p>"
    drawn = ("train_loss", "validation_loss")
    losses = [e[name] for e in curve for name in drawn if e[name] is not None]
    low, high = min(losses), max(losses)
    span = (high - low) or 1.0
    last = max(len(curve) - 1, 1)

    def place(epoch: int, loss: float) -> str:
        x = LEFT + (WIDTH - LEFT - 90) * epoch / last
        return f"{x:.1f},{10 + (HEIGHT - BOTTOM - 10) * (high - loss) / span:.1f}"

    parts = []
    for name, word in zip(drawn, ("train", "validation"), strict=True):
        points = [place(e["epoch"], e[name]) for e in curve if e[name] is not None]
        if points:
            x, y = points[-1].split(",")
            parts.append(f'<polyline class="{word}" points="{" ".join(points)}"/>')
            parts.append(f'<text x="{float(x) + 6:.1f}" y="{float(y) + 4:.1f}">{word}</text>')
    for loss in (low, (low + high) / 2, high):
        y = place(0, loss).split(",")[1]
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 90}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="4" y="{float(y) + 4:.1f}">{loss:.4f}</text>')
    for epoch in sorted({0, last if len(curve) > 1 else 0}):
        x = place(epoch, low).split(",")[0]
        parts.append(f'<text x="{x}" y="{HEIGHT - 8}" text-anchor="middle">{epoch}</text>')
    words = "" if best is None else f" The network of epoch {best} was kept."
    return (
        "<h2>The network's loss by epoch</h2>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="loss by epoch">'
        f"{''.join(parts)}</svg><p>Weighted log loss, positives counted more.{words}</p>"
    )
