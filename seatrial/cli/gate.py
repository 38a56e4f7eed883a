"""Commands of a run that a gate leads: start it, ask it, watch it."""

from __future__ import annotations

import getpass
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from seatrial.cli.gate_view import line, live
from serving.errors import GateError, UsageError
from serving.rollout.gate import Phase, read_plan
from serving.rollout.gate.plan import PLAN_FILE
from serving.rollout.run import deadman as dead_man
from serving.rollout.run.lead import lead
from serving.rollout.run.lease import held, holder
from serving.rollout.run.parts import GateSettings, build
from serving.rollout.run.runner import Step, obey
from serving.rollout.run.store import FOLDER as RUNS
from serving.rollout.run.store import Asked, Run, Runs
from serving.rollout.run.view import view

FOLDER = click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
RUN = click.option("--run", help="Id of a run; else the latest.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
RUNS_DIR = click.option(
    "--runs",
    "runs_dir",
    type=click.Path(path_type=Path),
    envvar="SEATRIAL_RUNS",
    help=f"Where runs are kept.  [default: FOLDER/{RUNS}]",
)
START_S = 20.0
HEARD_S = 10.0


@click.command()
@FOLDER
@click.option(
    "--actuator",
    type=click.Choice(["local", "git", "kubernetes"]),
    default="local",
    show_default=True,
    help="Who makes a move: the player, a commit, or the gate itself on the cluster.",
)
@click.option(
    "--traffic",
    type=click.Choice(["local", "cluster"]),
    default="local",
    show_default=True,
    help="With --actuator git: where a commit takes effect.",
)
@click.option("--push", is_flag=True, help="With --actuator git: push every commit.")
@click.option(
    "--source",
    type=click.Choice(["predictors", "prometheus", "file"]),
    default="predictors",
    show_default=True,
    help="Who counts: the predictors' /metrics, Prometheus, or a file that grows.",
)
@click.option("--prometheus", "prometheus_url", default="", help="Its URL.")
@click.option(
    "--matchers", "prometheus_matchers", help="For every selector, as in 'cluster=\"eu\"'."
)
@click.option("--recorded", type=click.Path(path_type=Path), help="The file of --source file.")
@click.option("--state", "state_dir", type=click.Path(path_type=Path), help="The player's.")
@click.option("--context", help="kubeconfig's context.")
@click.option("--deadman/--no-deadman", default=True, help="A process that outlives this one.")
@click.option("--deadman-seconds", type=float, help="Silence after which it acts.")
@click.option("--detach", is_flag=True, help="Go on in the background.")
@click.option("--quiet", is_flag=True, help="No progress.")
@RUNS_DIR
@JSON
def start(
    folder: Path, deadman: bool, detach: bool, quiet: bool, as_json: bool, **options: Any
) -> None:
    """Lead the canary of FOLDER's plan.yaml to promotion or back; go on with a run not finished.

    Exit code 0 when it was promoted, 1 when it was rolled back.
    """
    if options["actuator"] != "git":
        options.pop("traffic")
    for name in ("recorded", "state_dir", "runs_dir"):
        options[name] = options[name] and options[name].absolute()
    # As if Ctrl-C had been pressed: the lease is given back, and the next gate need not wait.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    settings = GateSettings(folder=folder.absolute(), **options)
    plan = read_plan(folder / PLAN_FILE)
    if detach:
        _detach(settings, as_json)
        return
    parts = build(settings, plan)
    console = Console(stderr=as_json, quiet=quiet)

    def started(run: Run) -> None:
        console.print(f"run {run.id}", highlight=False)
        if deadman:
            words = ["rollout", "deadman", str(settings.folder), "--runs", str(settings.runs.path)]
            _spawn(words, settings.runs.path / "deadman.log")

    state = lead(
        settings.runs,
        plan,
        parts.source,
        parts.actuator,
        parts.lease,
        settings=settings.model_dump(mode="json"),
        digest=parts.digest,
        started=started,
        progress=lambda step: _progress(step, console),
    )
    if as_json:
        click.echo(json.dumps(view(settings.runs, state.run).to_json(), indent=1))
    sys.exit(0 if state.phase is Phase.DONE else 1)


@click.command()
@FOLDER
@RUN
@RUNS_DIR
@JSON
def status(folder: Path, run: str | None, runs_dir: Path | None, as_json: bool) -> None:
    """Say where a run stands and why."""
    found = view(runs_of(folder, runs_dir), run)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
        return
    Console().print(live(found))


@click.command()
@FOLDER
@RUN
@RUNS_DIR
@click.option("--once", is_flag=True, help="Print it once.")
def watch(folder: Path, run: str | None, runs_dir: Path | None, once: bool) -> None:
    """Show weights, evidence against both thresholds and the time to a decision, live."""
    runs, console = runs_of(folder, runs_dir), Console()
    found = view(runs, run)
    if once or not console.is_terminal:
        console.print(live(found))
        return
    with Live(live(found), console=console, auto_refresh=False) as shown:
        while not found.state.ended:
            time.sleep(0.5)
            found = view(runs, run)
            shown.update(live(found), refresh=True)


@click.command()
@FOLDER
@RUNS_DIR
def pause(folder: Path, runs_dir: Path | None) -> None:
    """Stay at the present share; a canary that is proven bad is rolled back all the same."""
    request(folder, "pause", runs_dir=runs_dir)


@click.command()
@FOLDER
@RUNS_DIR
def resume(folder: Path, runs_dir: Path | None) -> None:
    """Go on after a pause; weights that were edited by hand meanwhile are set again."""
    request(folder, "resume", runs_dir=runs_dir)


@click.command()
@FOLDER
@click.argument("percent", type=click.IntRange(1, 100))
@RUNS_DIR
def approve(folder: Path, percent: int, runs_dir: Path | None) -> None:
    """Approve the step to PERCENT, which the plan asks a person about."""
    request(folder, "approve", percent, runs_dir=runs_dir)


@click.command()
@FOLDER
@RUNS_DIR
def abort(folder: Path, runs_dir: Path | None) -> None:
    """Roll the canary back, whatever the evidence. Works without a gate too."""
    runs = runs_of(folder, runs_dir)
    request(folder, "abort", runs_dir=runs_dir)
    if held(runs.lease_file):
        return
    settings = GateSettings.model_validate(runs.get().settings()["gate"])
    plan = runs.get().plan()
    parts = build(settings, plan)
    lead(runs, plan, parts.source, parts.actuator, parts.lease)
    click.echo(line(view(runs)))


@click.command()
@FOLDER
@click.option("--once", is_flag=True, help="Check once, as a cron job does.")
@click.option("--seconds", type=float, help="Silence after which it acts.")
@RUNS_DIR
def deadman(folder: Path, once: bool, seconds: float | None, runs_dir: Path | None) -> None:
    """Set the canary to 0 % when the gate of a run that has not ended falls silent."""
    settings = GateSettings(folder=folder.absolute(), runs_dir=runs_dir, deadman_seconds=seconds)
    dead_man.watch(settings, once=once, tell=click.echo)


def runs_of(folder: Path, runs_dir: Path | None) -> Runs:
    return Runs(runs_dir or folder / RUNS)


def request(
    folder: Path, kind: str, step: int | None = None, *, runs_dir: Path | None = None
) -> None:
    """Leaves the request and waits until the gate, if there is one, has taken it in."""
    runs = runs_of(folder, runs_dir)
    run, by = runs.get(), getpass.getuser()
    state = run.load()
    if state.ended:
        raise UsageError(f"run {run.id} is {state.phase.value}; start another run")
    # What the gate would refuse is refused here, where the person is.
    obey(state, run.plan(), Asked(run.path, kind, by, step))
    file = run.ask(kind, by, step)
    if not held(runs.lease_file):
        click.echo(f"run {run.id}: no gate is at work; '{kind}' waits for one", err=True)
        return
    deadline = time.monotonic() + HEARD_S
    while file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    if file.exists():
        raise GateError(
            f"run {run.id}: {holder(runs.lease_file)} has not taken in '{kind}' within"
            f" {HEARD_S:g} s; it may be waiting for the cluster, and will when it looks again"
        )
    click.echo(line(view(runs)))


def _progress(step: Step, console: Console) -> None:
    problem = f" [red]{step.problem}[/]" if step.problem else ""
    weight = "?" if step.observation.weight is None else step.observation.weight
    console.print(
        f"{time.strftime('%H:%M:%S', time.localtime(step.observation.end))}"
        f" {step.state.phase.value} {weight} %: {step.reason}{problem}",
        highlight=False,
    )


def _detach(settings: GateSettings, as_json: bool) -> None:
    """The same command in a session of its own; returns once the gate is at work."""
    if held(settings.runs.lease_file):
        raise GateError(
            f"{settings.runs.lease_file}: held by {holder(settings.runs.lease_file)}; only one gate"
            " may act on a rollout: let it end, or end it"
        )
    arguments = [one for one in sys.argv[1:] if one not in ("--detach", "--json")]
    log = settings.runs.path / "gate.log"
    process = _spawn(arguments, log)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        run = settings.runs.current()
        if (
            held(settings.runs.lease_file)
            and run is not None
            and run.silence(time.time()) < START_S
        ):
            click.echo(json.dumps({"run": run.id, "pid": process.pid}) if as_json else run.id)
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    said = log.read_text().strip().splitlines() or ["nothing"]
    raise GateError(f"the gate did not start; its log ends with: {said[-1]} (log: {log})")


def _spawn(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "seatrial", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


COMMANDS = (start, status, watch, pause, resume, approve, abort, deadman)
