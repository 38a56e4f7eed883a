"""`seatrial labels`: what predictions turned out to be, sent to the drift sidecars."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
from rich.console import Console

from seatrial.labels import read_table, send, sidecars
from serving.local import default_state_dir


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--url",
    multiple=True,
    help="Of a drift sidecar; repeatable.  [default: the player's]",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=default_state_dir,
    help="Player to ask without --url. [default: $SEATRIAL_STATE, else XDG's]",
)
@click.option("--batch", default=5000, show_default=True, help="Labels a request.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def labels(
    file: Path, url: tuple[str, ...], state: Path, batch: int, quiet: bool, as_json: bool
) -> None:
    """Send FILE (CSV, Parquet or JSON lines with id, outcome and, if known, time) to the sidecars.

    Each arm keeps the labels of rows that it answered; the others are unknown to it.
    """
    found = read_table(file)
    urls = list(url) or sidecars(state)
    began = time.monotonic()
    with Console(stderr=True, quiet=quiet).status("sending") as spinner:
        results = send(
            found,
            urls,
            batch,
            lambda done: spinner.update(f"{done:,} of {len(found.ids):,} labels sent"),
        )
    seconds = time.monotonic() - began
    if as_json:
        click.echo(json.dumps({"labels": len(found.ids), "sidecars": results}, indent=1))
        return
    click.echo(f"{len(found.ids):,} labels, {sum(found.outcomes):,} positive, in {seconds:.1f} s")
    for result in results:
        click.echo(
            f"  {result['arm']} at {result['url']}: {result['joined']:,} joined,"
            f" accuracy {_share(result['accuracy'])}"
        )


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.2f} %"
