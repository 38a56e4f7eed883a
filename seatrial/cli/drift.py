"""Commands around drift: the page for people on call, replicas merged, labels sent."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from seatrial.report.drift import merge_snapshots, of_player, read_status, write_drift_report
from seatrial.report.drift.reading import read_pod, size
from serving.bundle import open_bundle
from serving.local import default_state_dir

FILE = click.Path(path_type=Path)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")


@click.group()
def drift() -> None:
    """Look at what the drift sidecars have seen."""


@drift.command()
@click.argument("sources", nargs=-1)
@click.option("--out", type=FILE, default=Path("drift.html"), show_default=True, help="The page.")
@click.option(
    "--state",
    type=FILE,
    default=default_state_dir,
    help="Player to ask without SOURCES. [default: $SEATRIAL_STATE, else XDG's]",
)
@JSON
def report(sources: tuple[str, ...], out: Path, state: Path, as_json: bool) -> None:
    """Write one page from SOURCES: sidecars' URLs, or files of what their /status said.

    Without SOURCES every pod of the local player is asked.
    """
    statuses = [read_status(source) for source in sources] if sources else of_player(state)
    if as_json:
        click.echo(json.dumps(statuses, indent=1))
        return
    written = write_drift_report(statuses, out)
    console = Console()
    for status in statuses:
        pod = read_pod(status)
        console.print(f"{pod.title}: {pod.headline}", highlight=False, markup=False)
    click.echo(written)


@drift.command()
@click.argument("snapshots", nargs=-1, required=True, type=FILE)
@click.option("--bundle", type=FILE, required=True, help="Folder of the bundle they watch.")
@click.option("--out", type=FILE, help="Also write the page here.")
@JSON
def merge(snapshots: tuple[Path, ...], bundle: Path, out: Path | None, as_json: bool) -> None:
    """Add up the SNAPSHOTS of replicas (snapshot.npz in each state folder) to one picture."""
    status = merge_snapshots(open_bundle(bundle), snapshots)
    if out is not None:
        write_drift_report([status], out)
    if as_json:
        click.echo(json.dumps(status, indent=1))
        return
    console = Console()
    console.print(f"{status['replica']}, {status['input']['rows']:,} rows", highlight=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("COLUMN", "PSI", "SIZE", "JS", "MISSING"):
        table.add_column(heading)
    for feature in sorted(status["features"], key=lambda f: -f["psi"]):
        table.add_row(
            feature["name"],
            f"{feature['psi']:.4f}",
            size(feature["psi"]),
            f"{feature['js']:.4f}",
            f"{100 * feature['missing_ratio']:.2f} %",
        )
    console.print(table)
    if out is not None:
        click.echo(out)
