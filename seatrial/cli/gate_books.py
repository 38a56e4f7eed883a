"""Commands that look back on runs, or ahead; nothing is touched."""

from __future__ import annotations

import datetime
import json
import time
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from seatrial.cli.gate import RUNS_DIR, runs_of
from serving.errors import GateError, UsageError
from serving.rollout.gate import Plan, read_plan
from serving.rollout.gate.audit import Entry, stream
from serving.rollout.gate.chain import verify_chain
from serving.rollout.gate.explain import explain
from serving.rollout.gate.plan import PLAN_FILE
from serving.rollout.gate.replay import replay as decide_again
from serving.rollout.gate.simulate import ArmModel, Scenario, compare
from serving.rollout.overlay import ROLLOUT_FILE, read_rollout
from serving.rollout.run.parts import GateSettings, build
from serving.rollout.sources import Arms, MetricsSource

FOLDER = click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
RUN = click.option("--run", help="Id of a run; else the latest.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
RATE = click.option("--rate", type=float, help="Requests a second of both arms; else measured.")
ERRORS = click.option("--errors", type=float, help="Stable's share of failed requests.")
SEED = click.option("--seed", default=0, show_default=True)
MEASURED_S = 5.0


@click.command()
@FOLDER
@RUNS_DIR
@JSON
def history(folder: Path, runs_dir: Path | None, as_json: bool) -> None:
    """List the runs of FOLDER, latest last."""
    rows = []
    for run in runs_of(folder, runs_dir).all():
        state = run.load()
        rows.append(
            {
                "run": state.run,
                "stable": state.stable.name,
                "canary": state.canary.name,
                "started": state.started,
                "seconds": None
                if state.started is None or state.now is None
                else round(state.now - state.started, 3),
                "phase": state.phase.value,
                "looks": state.looks,
            }
        )
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        began = row["started"]
        when = "not begun" if began is None else _moment(float(str(began)))
        arms = f"{row['stable']} -> {row['canary']}"
        click.echo(f"{row['run']}\t{when}\t{arms}\t{row['looks']} looks\t{row['phase']}")


@click.command()
@FOLDER
@RUN
@click.option("--plan", "other", type=click.Path(path_type=Path), help="Decide by this plan.")
@RUNS_DIR
@JSON
def replay(
    folder: Path, run: str | None, other: Path | None, runs_dir: Path | None, as_json: bool
) -> None:
    """Decide every look of a run again, out of its audit log.

    Exit code 1 when a decision differs from the one in the log; with --plan they may.
    """
    found = runs_of(folder, runs_dir).get(run)
    again = decide_again(stream(found.audit_file), None if other is None else read_plan(other))
    last = again.state
    rows = [
        {
            "line": step.number,
            "equal": step.equal,
            "was": dict(step.was),
            "is": dict(step.decision),
        }
        for step in again.steps
    ]
    if as_json:
        click.echo(json.dumps({"run": found.id, "requests": again.requests, "looks": rows}))
    else:
        for step in again.steps:
            was, now = step.was, step.decision
            if not step.equal or now["action"]["kind"] != "hold":
                mark = "" if step.equal else f"  (was: {was['phase']}, {was['reason']})"
                click.echo(f"line {step.number}: {now['phase']}: {now['reason']}{mark}")
        click.echo(
            f"run {found.id}: {len(again.steps)} looks over {again.requests:,} requests decided"
            f" again, {len(again.different)} differ; ends {last.phase.value if last else 'unbegun'}"
        )
    if again.different and other is None:
        raise GateError(f"run {found.id}: line {again.different[0].number} decides otherwise")


@click.command()
@FOLDER
@RUN
@click.option("--bundle", type=click.Path(path_type=Path), help="The canary's bundle folder.")
@click.option("--data", help="sha256 that the training data must have had.")
@click.option("--head", help="Last hash of the audit log, known from elsewhere.")
@RUNS_DIR
@JSON
def verify(
    folder: Path,
    run: str | None,
    runs_dir: Path | None,
    bundle: Path | None,
    data: str | None,
    head: str | None,
    as_json: bool,
) -> None:
    """Prove the chain from data to bundle to manifest commit to decision."""
    found = runs_of(folder, runs_dir).get(run)
    settings = found.settings().get("gate", {})
    tail = found.load().tail
    links = verify_chain(
        found.audit_file,
        bundle=bundle,
        rollout=folder / ROLLOUT_FILE if settings.get("actuator") == "git" else None,
        data=data,
        head=head or (Entry.from_line(tail).hash if tail else None),
    )
    if as_json:
        click.echo(json.dumps([asdict(link) for link in links], indent=1))
        return
    for link in links:
        click.echo(f"{link.name}: {link.detail}")


@click.command()
@FOLDER
@click.argument("others", nargs=-1, type=click.Path(path_type=Path))
@RATE
@ERRORS
@click.option("--worse", default=2.0, show_default=True, help="How much worse the bad canary is.")
@click.option("--runs", default=100, show_default=True, help="Simulated runs a cell.")
@SEED
@JSON
def simulate(
    folder: Path,
    others: tuple[Path, ...],
    rate: float | None,
    errors: float | None,
    worse: float,
    runs: int,
    seed: int,
    as_json: bool,
) -> None:
    """Compare FOLDER's plan with OTHERS on simulated canaries, before anything is touched."""
    files = [folder / PLAN_FILE, *others]
    plans = {str(file): read_plan(file) for file in files}
    rate, errors = _traffic(folder, next(iter(plans.values())), rate, errors)
    usual = ArmModel(error_rate=errors)
    scenarios = {
        "healthy": Scenario(rate, usual, usual),
        f"{worse:g}x worse": Scenario(rate, usual, ArmModel(error_rate=min(1.0, errors * worse))),
        "scores shifted": Scenario(rate, usual, ArmModel(error_rate=errors, score_shift=1.0)),
    }
    found = compare(plans, scenarios, runs=runs, seed=seed)
    if as_json:
        cells = {p: {s: asdict(cell) for s, cell in row.items()} for p, row in found.items()}
        click.echo(json.dumps({"rate": rate, "errors": errors, "plans": cells}, indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("PLAN", "CANARY", "PROMOTED", "ROLLED BACK", "ASKED", "SECONDS", "REQUESTS"):
        table.add_column(heading)
    for name, row in found.items():
        for title, cell in row.items():
            shares = (cell.promoted, cell.rolled_back, cell.asked)
            medians = (f"{cell.seconds:,.0f}", f"{cell.canary_requests:,.0f}")
            table.add_row(name, title, *(f"{share:.0%}" for share in shares), *medians)
    Console().print(f"{rate:g} requests/s, of which stable fails {errors:.3%}", highlight=False)
    Console().print(table)


@click.command()
@FOLDER
@RATE
@ERRORS
@SEED
def plan(folder: Path, rate: float | None, errors: float | None, seed: int) -> None:
    """Say in plain words what FOLDER's plan will do at today's traffic."""
    found = read_plan(folder / PLAN_FILE)
    rate, errors = _traffic(folder, found, rate, errors)
    click.echo(explain(found, rate, errors, seed=seed), nl=False)


def _traffic(
    folder: Path, plan: Plan, rate: float | None, errors: float | None
) -> tuple[float, float]:
    """Today's traffic as given, or as the predictors on this machine count it for a moment."""
    if rate is not None:
        return rate, errors or 0.0
    settings = GateSettings(folder=folder.absolute())
    try:
        source: MetricsSource = build(settings, plan).source
        state = read_rollout(folder)
        arms = Arms(state.service, state.namespace, state.stable.name, plan.canary)
        first = source.look(arms, None, time.time())
        time.sleep(MEASURED_S)
        counts = source.look(arms, first.snapshot, time.time()).counts
    except GateError as error:
        raise UsageError(f"today's traffic is not known ({error}); give --rate") from None
    requests = sum(arm.requests for arm in (counts.stable, counts.canary) if arm is not None)
    if not requests or counts.stable is None:
        raise UsageError(f"no request came within {MEASURED_S:g} s; give --rate and --errors")
    seen = counts.stable.errors / max(1, counts.stable.requests)
    return requests / (counts.end - counts.start), seen if errors is None else errors


def _moment(seconds: float) -> str:
    found = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return found.strftime("%Y-%m-%d %H:%M:%SZ")


COMMANDS = (history, replay, verify, simulate, plan)
