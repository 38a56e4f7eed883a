"""Commands that tell, or look back on, a whole run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console

from seatrial.demo.run import run_demo
from seatrial.demo.settings import DemoSettings
from seatrial.report import print_summary, write_report
from serving.errors import FileError

DEFAULTS = DemoSettings()


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="CSV or Parquet; else simulated.")
@click.option("--contract", type=click.Path(path_type=Path), help="The contract of --data.")
@click.option("--runs", type=click.Path(path_type=Path), default=DEFAULTS.runs, show_default=True)
@click.option("--customers", default=DEFAULTS.customers, show_default=True, help="To simulate.")
@click.option("--days", default=DEFAULTS.days, show_default=True, help="To simulate.")
@click.option("--seed", default=DEFAULTS.seed, show_default=True)
@click.option("--port", default=DEFAULTS.port, show_default=True, help="The gateway's.")
@click.option("--rate", default=DEFAULTS.rate, show_default=True, help="Requests a second.")
@click.option("--keep", is_flag=True, help="Leave the system running at the end.")
@click.option("--quiet", is_flag=True, help="No progress, only the summary.")
@click.option("--json", "as_json", is_flag=True, help="Print the run's facts as JSON.")
def demo(
    data: Path | None,
    contract: Path | None,
    runs: Path,
    customers: int,
    days: int,
    seed: int,
    port: int,
    rate: float,
    keep: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """The whole story: data, pipeline, serve, drift and retraining, canary, two bad ones, report.

    A table of one's own has no shift to find: with --data the canary is trained on a later window.

    Exit code 0 only if every stage ended as it must.
    """
    if (data is None) != (contract is None):
        raise click.UsageError("give --data and --contract together")
    settings = DemoSettings(
        runs=runs,
        data=data,
        contract=contract,
        customers=customers,
        days=days,
        seed=seed,
        port=port,
        rate=rate,
        keep=keep,
    )
    code, facts = run_demo(settings, Console(stderr=as_json), quiet=quiet)
    if as_json:
        click.echo(json.dumps(facts.data, indent=1, sort_keys=True))
    sys.exit(code)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the run's facts as JSON.")
def report(run: Path, as_json: bool) -> None:
    """Write RUN/report.html anew from RUN/facts.json, and print its summary."""
    file = run / "facts.json"
    try:
        facts = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise FileError(f"{file}: cannot read the run's facts: {error}") from None
    written = write_report(facts, run)
    if as_json:
        click.echo(json.dumps(facts, indent=1, sort_keys=True))
        return
    print_summary(facts, Console())
    click.echo(written)


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def replay(arguments: tuple[str, ...]) -> None:
    """Send a table's rows through the gateway, counting every answer."""
    from seatrial.replay.__main__ import main  # noqa: PLC0415 - uvloop only where it runs

    sys.exit(main(list(arguments)))
