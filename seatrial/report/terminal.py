"""The terminal's summary of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seatrial.report.text import count, metric, milliseconds, percent, seconds, short
from seatrial.report.verdict import verdict

Facts = Mapping[str, Any]


def print_summary(facts: Facts, console: Console) -> None:
    """Verdict, stages, answers by arm, gateway latency and bundles."""
    said = verdict(facts)
    colour = "green" if said.ok else "red"
    console.print()
    console.print(
        Text.assemble(
            (" PASSED " if said.ok else " FAILED ", f"bold white on {colour}"),
            " ",
            (said.headline, "bold"),
        )
    )
    if said.detail:
        console.print(Text(said.detail, style="dim"))
    for table in (_stages(facts), _answers(facts), _bundles(facts)):
        if table is not None:
            console.print()
            console.print(table)
    gateway = facts.get("gateway")
    if gateway:
        console.print()
        console.print(
            Text(
                f"Gateway, {gateway['connections']} connections, one row a request:"
                f" p50 {milliseconds(gateway['p50_ms'])}, p99 {milliseconds(gateway['p99_ms'])},"
                f" {percent(gateway['under_100ms'])} under 100 ms,"
                f" {count(gateway['errors'])} errors in {count(gateway['requests'])} requests."
            )
        )
    events = facts.get("drift_events") or ()
    if events:
        console.print(Text(f"Drift events: {count(len(events))}, the first {events[0]['type']}."))


def _table(title: str, *columns: str) -> Table:
    """Columns whose name starts with > are right-aligned."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name in columns:
        justify = "right" if name.startswith(">") else "left"
        table.add_column(name.lstrip(">"), justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table


def _row(table: Table, *cells: str | Text) -> None:
    # Text, so that brackets in the facts are no markup.
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))


def _stages(facts: Facts) -> Table | None:
    stages = facts.get("stages") or ()
    if not stages:
        return None
    table = _table("Stages", "", "Stage", ">Time", "What happened")
    for stage in stages:
        mark = Text("✓", style="green") if stage["ok"] else Text("✗", style="red")
        _row(table, mark, stage["name"], seconds(stage["seconds"]), stage["detail"])
    return table


def _answers(facts: Facts) -> Table | None:
    traffic = facts.get("traffic")
    if not traffic:
        return None
    title = (
        f"Answers counted at the client: {count(traffic['answers'])},"
        f" {count(traffic['failed_by_move'])} failed because of a move,"
        f" {count(traffic['model_errors'])} errors of a model itself"
    )
    table = _table(title, "Arm", "Wire", ">Requests", ">Errors", ">p50", ">p99")
    for row in traffic["by_arm"]:
        errors = Text(count(row["errors"]), style="red" if row["errors"] else "")
        latency = milliseconds(row["p50_ms"]), milliseconds(row["p99_ms"])
        _row(table, row["arm"], row["wire"], count(row["requests"]), errors, *latency)
    return table


def _bundles(facts: Facts) -> Table | None:
    bundles = facts.get("bundles") or ()
    if not bundles:
        return None
    table = _table("Bundles", "Role", "Bundle", "Parent", ">ROC AUC", ">Average precision")
    for bundle in bundles:
        scores = (metric(bundle["metrics"].get(k)) for k in ("roc_auc", "average_precision"))
        _row(table, bundle["role"], bundle["name"], short(bundle["parent"]), *scores)
    return table
