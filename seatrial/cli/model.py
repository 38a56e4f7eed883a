"""Commands that make a model: simulate a table, train a bundle, look at one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import click
from rich.console import Console

from pipelines.local import run_train
from seatrial.simulator import Drift, Injection, SchemaFault, SimulatorSettings, write
from seatrial.simulator.settings import DRIFT_KINDS, FAULT_COLUMNS, DriftKind, FaultKind
from serving.bundle import load_contract, open_bundle
from serving.errors import UsageError

FILE = click.Path(path_type=Path)
DEFAULTS = SimulatorSettings()


@click.command()
@click.option("--out", type=FILE, required=True, help="Folder to write table and contract to.")
@click.option("--seed", default=DEFAULTS.seed, show_default=True)
@click.option("--customers", default=DEFAULTS.customers, show_default=True)
@click.option("--days", default=DEFAULTS.days, show_default=True)
@click.option(
    "--inject",
    multiple=True,
    metavar="KIND@DAY[:SIZE]",
    help=f"Drift ({', '.join(DRIFT_KINDS)}) or a schema fault ({', '.join(FAULT_COLUMNS)}).",
)
def simulate(out: Path, seed: int, customers: int, days: int, inject: tuple[str, ...]) -> None:
    """Write OUT/transactions.parquet and OUT/contract.json."""
    settings = SimulatorSettings(
        seed=seed,
        customers=customers,
        days=days,
        injections=tuple(_injection(text) for text in inject),
    )
    table, contract = write(out, settings)
    click.echo(f"{table}\n{contract}")


@click.command()
@click.option("--data", type=FILE, required=True, help="CSV or Parquet table.")
@click.option("--contract", type=FILE, required=True, help="Its contract.")
@click.option("--out", type=FILE, default=Path("bundles"), show_default=True)
@click.option("--work", type=FILE, default=Path("work"), show_default=True, help="Steps' outputs.")
@click.option("--parent", help="Digest of the bundle this one succeeds.")
@click.option("--champion", type=FILE, help="Bundle in production to compare with.")
@click.option("--seed", default=0, show_default=True)
@click.option("--window-from", type=float, help="Leave out rows before this time.")
@click.option("--window-to", type=float, help="Leave out rows from this time on.")
@click.option("--test-from", type=float, help="Test on rows from this time on, else the last 20 %.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def train(
    data: Path,
    contract: Path,
    out: Path,
    work: Path,
    parent: str | None,
    champion: Path | None,
    seed: int,
    window_from: float | None,
    window_to: float | None,
    test_from: float | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run the train pipeline on this machine and print the bundle's folder."""
    with Console(stderr=True, quiet=quiet).status("starting") as spinner:
        path = run_train(
            data,
            contract,
            out,
            work=work,
            parent=parent,
            champion=champion,
            seed=seed,
            window=(window_from, window_to),
            test_from=test_from,
            on_progress=lambda stage, state: spinner.update(f"{stage} {state}"),
        )
    if as_json:
        click.echo(json.dumps({"bundle": str(path), "digest": open_bundle(path).digest}))
    else:
        click.echo(path)


@click.command()
@click.argument("folder", type=FILE)
@click.option("--contract", type=FILE, help="Also check that it was made for this contract.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bundle(folder: Path, contract: Path | None, as_json: bool) -> None:
    """Verify the bundle in FOLDER and show what it is."""
    found = open_bundle(folder, contract=None if contract is None else load_contract(contract))
    shown = {
        "name": found.contract.name,
        "digest": found.digest,
        **found.read_json("lineage.json"),
        **found.read_json("metrics.json").get("metrics", {}),
    }
    if as_json:
        click.echo(json.dumps(shown, indent=2))
        return
    for key, value in shown.items():
        click.echo(f"{key:20} {value}")


def _injection(text: str) -> Injection:
    found = re.fullmatch(r"(\w+)@(\d+(?:\.\d+)?)(?::(\d+(?:\.\d+)?))?", text)
    if found is None:
        raise UsageError(f"--inject {text}: write KIND@DAY or KIND@DAY:SIZE")
    kind, day, size = found[1], float(found[2]), found[3]
    for drift in get_args(DriftKind):
        if kind == drift:
            return Drift(at=day, kind=drift, size=float(size or 0.5))
    for fault in get_args(FaultKind):
        if kind == fault:
            return SchemaFault(at=day, kind=fault, share=float(size or 0.05))
    known = ", ".join((*DRIFT_KINDS, *FAULT_COLUMNS))
    raise UsageError(f"--inject {text}: kind '{kind}' is unknown; choose one of {known}")
