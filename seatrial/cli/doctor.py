"""`seatrial doctor`."""

from __future__ import annotations

import json
import sys

import click
from rich.console import Console
from rich.table import Table

from seatrial.doctor import Diagnosis, Level, diagnose
from seatrial.doctor.overlay import rendered
from serving.rollout.actuators.cluster import Cluster

_MARKS = {
    Level.FINE: "[green]fine[/]",
    Level.LIMITED: "[yellow]limited[/]",
    Level.BROKEN: "[red]broken[/]",
    Level.UNKNOWN: "[yellow]unknown[/]",
}


@click.command()
@click.option(
    "--overlay",
    default="cpu",
    show_default=True,
    help=f"The overlay that is to be applied: {', '.join(rendered())}; cpu is the root.",
)
@click.option("--context", help="Context of kubeconfig.  [default: the current one]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(overlay: str, context: str | None, as_json: bool) -> None:
    """Say what will and won't work on the cluster that kubeconfig names. Writes nothing there.

    Exit code 0 if `kubectl apply -k manifests/overlays/OVERLAY` would succeed and what it makes
    become ready, as far as reading can tell; 1 if not.
    """
    found = diagnose(Cluster.connect(context), overlay)
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        _show(found)
    if not found.would_apply:
        sys.exit(1)


def _show(found: Diagnosis) -> None:
    console = Console()
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in found.findings:
        mend = f"\n[dim]mend:[/] {finding.mend}" if finding.mend else ""
        table.add_row(_MARKS[finding.level], finding.topic, finding.says + mend)
    console.print(table)
    verdict = "would apply" if found.would_apply else "[red]would not work[/]"
    console.print(
        f"\noverlay {found.overlay}: {verdict}; the overlay for this cluster is"
        f" {found.advised}: kubectl apply -k manifests/overlays/{found.advised}"
    )
