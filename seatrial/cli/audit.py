"""Commands for people who ask about a prediction: what was logged of it, and its erasure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from serving.predictor import audit_files
from serving.predictor.settings import ENV_PREFIX

LOG = click.option(
    "--log",
    type=click.Path(path_type=Path),
    required=True,
    envvar=f"{ENV_PREFIX}AUDIT_LOG",
    show_envvar=True,
    help="The predictor's --audit_log; its rotated files are looked through too.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def audit() -> None:
    """Ask the predictor's audit log about a request, or make it forget one."""


@audit.command()
@click.argument("id")
@LOG
@JSON
def find(id: str, log: Path, as_json: bool) -> None:  # noqa: A002 - click names it so in its usage
    """Print what is logged of the request ID, oldest first."""
    lines = audit_files.find(log, id)
    if as_json:
        click.echo(json.dumps(lines, indent=2))
        return
    if not lines:
        click.echo(f"nothing is logged of '{id}'")
    for line in lines:
        click.echo("\t".join(_told(line)))


@audit.command()
@click.argument("id")
@LOG
@JSON
def erase(id: str, log: Path, as_json: bool) -> None:  # noqa: A002
    """Erase every line of the request ID, also in rotated files; safe while the log is written."""
    count = audit_files.erase(log, id)
    if as_json:
        click.echo(json.dumps({"id": id, "erased": count}))
    else:
        click.echo(f"erased {count} lines of '{id}'")


def _told(line: dict[str, Any]) -> list[str]:
    score = line.get("score")
    return [
        str(line.get("time", "")),
        f"row {line.get('row', 0)}",
        "no score" if score is None else f"{score:.6g}",
        str(line.get("decision", "")),
        str(line.get("reason", "")),
        f"{line.get('arm', '')} {str(line.get('bundle', ''))[:12]}".strip(),
        json.dumps(line["input"]) if "input" in line else str(line.get("input_sha256", "")),
    ]
