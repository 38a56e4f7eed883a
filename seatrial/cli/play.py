"""The player's commands."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from seatrial.deployment import create_deployment
from serving.bundle import open_bundle
from serving.local import LocalPlayer, PlayerSettings, Status, default_state_dir, load_settings
from serving.rollout import read_manifest
from serving.rollout.manifest import check_file
from serving.rollout.schema import is_neighbour

MANIFEST = click.argument("manifest", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
QUIET = click.option("--quiet", is_flag=True, help="No progress.")
WAIT = click.option("--wait", default=60.0, show_default=True, help="Seconds to wait for ready.")
STATE = click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=default_state_dir,
    help="State directory; one player runs in each. [default: $SEATRIAL_STATE, else XDG's]",
)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--port", default=8080, show_default=True, help="The gateway's on this machine.")
def init(folder: Path, bundle: Path, port: int) -> None:
    """Write the deploy FOLDER that serves BUNDLE as stable predictor v1."""
    state = create_deployment(folder, open_bundle(bundle), port=port)
    click.echo(f"{folder}: {state.service} with stable v1 at {state.stable.storage_uri}")


@click.command()
@MANIFEST
@click.option("--port", type=click.IntRange(1, 65535), help="Gateway port.  [default: 8080]")
@click.option(
    "--storage",
    multiple=True,
    metavar="URI=FOLDER",
    help="Folder that stands for a storageUri prefix; may be given several times.",
)
@STATE
@WAIT
@JSON
@QUIET
def up(
    manifest: Path,
    port: int | None,
    storage: tuple[str, ...],
    state: Path,
    wait: float,
    as_json: bool,
    quiet: bool,
) -> None:
    """Play MANIFEST on this machine: a hydrated YAML file, or a deploy folder.

    A folder holds manifest.yaml, rollout.yaml and, for this machine's settings, player.yaml.
    """
    settings = _settings(manifest, port, storage)
    with Console(stderr=True, quiet=quiet).status("starting") as spinner:
        status = LocalPlayer(state).up(
            manifest, settings, wait_seconds=wait, progress=spinner.update
        )
    _show(status, as_json)


@click.command()
@MANIFEST
@STATE
@WAIT
@JSON
@QUIET
def apply(manifest: Path, state: Path, wait: float, as_json: bool, quiet: bool) -> None:
    """Make what runs equal to MANIFEST without failing a request."""
    with Console(stderr=True, quiet=quiet).status("applying") as spinner:
        shown = LocalPlayer(state).apply(manifest, wait_seconds=wait, progress=spinner.update)
    _show(shown, as_json)
    if not all(arm.ready for arm in shown.arms):
        sys.exit(1)


@click.command()
@STATE
@JSON
def status(state: Path, as_json: bool) -> None:
    """Show the arms, their weights and processes."""
    _show(LocalPlayer(state).status(), as_json)


@click.command()
@click.argument("name", default="player")
@click.option("-f", "--follow", is_flag=True, help="Go on printing what is appended.")
@STATE
def logs(name: str, follow: bool, state: Path) -> None:
    """Print the log of NAME: an arm, ARM/CONTAINER, gateway or player."""
    with LocalPlayer(state).logs(name).open("r", errors="replace") as file:
        shutil.copyfileobj(file, sys.stdout)
        while follow:
            shutil.copyfileobj(file, sys.stdout)
            sys.stdout.flush()
            time.sleep(0.2)


@click.command()
@STATE
def down(state: Path) -> None:
    """End everything the player started."""
    LocalPlayer(state).down()


@click.command()
@MANIFEST
def check(manifest: Path) -> None:
    """Say what a cluster would refuse in MANIFEST, or silently ignore."""
    found = read_manifest(manifest).documents if manifest.is_dir() else check_file(manifest)
    click.echo(f"{manifest}: {len(found)} objects, nothing a cluster would refuse")
    for kind, count in Counter(d["kind"] for d in found if is_neighbour(d)).items():
        click.echo(f"not checked: {count} {kind}, which 'kubectl apply --dry-run=server' can")


def _settings(manifest: Path, port: int | None, storage: tuple[str, ...]) -> PlayerSettings | None:
    """player.yaml beside the manifest with the flags over it; None where there is neither."""
    if port is None and not storage:
        return None
    folder = manifest if manifest.is_dir() else manifest.parent
    file = folder / "player.yaml"
    found = load_settings(file) if file.is_file() else PlayerSettings()
    changes: dict[str, object] = {} if port is None else {"gateway_port": port}
    given = dict(found.storage)
    for pair in storage:
        uri, separator, target = pair.partition("=")
        if not separator or not Path(target).is_dir():
            raise click.BadParameter(
                f"'{pair}' is not URI=FOLDER with an existing folder", param_hint="--storage"
            )
        given[uri] = Path(target).absolute()
    return found.model_copy(update={**changes, "storage": given})


def _show(status: Status, as_json: bool) -> None:
    if as_json:
        click.echo(status.to_json())
        return
    console = Console()
    console.print(
        f"{status.service} at {status.gateway} (HTTP and gRPC), supervisor {status.supervisor_pid},"
        f" {status.events} events",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False)
    for heading in ("ARM", "ROLE", "WEIGHT", "READY", "BUNDLE", "RESTARTS", "PIDS"):
        table.add_column(heading)
    for arm in status.arms:
        table.add_row(
            arm.name,
            arm.role,
            f"{arm.weight} %",
            "yes" if arm.ready else f"no: {arm.why}",
            (arm.digest or "none")[:12],
            str(sum(arm.restarts.values())),
            ", ".join(f"{name} {pid}" for name, pid in arm.pids.items()),
        )
    console.print(table)
    for line in status.not_played:
        console.print(f"not played: {line}", highlight=False, style="dim")
