"""Pipelines: run one here, submit one to KFP, ask a cluster whether one could run."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from pipelines.local import run as run_here
from pipelines.parameters import read_ir, read_parameters, with_defaults
from pipelines.submit import submit as submit_to

PARAM = click.option(
    "--param", "given", multiple=True, metavar="KEY=VALUE", help="KEY=@FILE takes a file's text."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
ACCOUNT = click.option("--service-account", default="", help="That the steps' pods run as.")


@click.group()
def pipeline() -> None:
    """Run a pipeline here, submit it to Kubeflow Pipelines, or check a cluster for it."""


@pipeline.command()
@click.argument("name")
@PARAM
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=Path("work"),
    show_default=True,
    help="Steps' outputs; a run that was killed goes on from them.",
)
@click.option("--quiet", is_flag=True, help="No progress.")
@JSON
def run(name: str, given: tuple[str, ...], work: Path, quiet: bool, as_json: bool) -> None:
    """Run pipeline NAME on this machine and print its output."""
    spec, _ = read_ir(name)
    output = run_here(
        name,
        read_parameters(spec, given),
        work=work,
        on_progress=lambda stage, state: (
            None if quiet else click.echo(f"{stage} {state}", err=True)
        ),
    )
    click.echo(json.dumps({"pipeline": name, "output": output}) if as_json else output)


@pipeline.command()
@click.argument("name")
@click.option("--host", required=True, envvar="SEATRIAL_KFP_URL", help="KFP's API server.")
@PARAM
@click.option("--experiment", default="Default", show_default=True)
@click.option("--run-name", default="", help="Such as an event's id.  [default: the version]")
@click.option("--namespace", default="", help="Of the profile, in KFP's multi-user mode.")
@ACCOUNT
def submit(
    name: str,
    host: str,
    given: tuple[str, ...],
    experiment: str,
    run_name: str,
    namespace: str,
    service_account: str,
) -> None:
    """Start a run of pipeline NAME on KFP and print the run's id."""
    spec, _ = read_ir(name)
    parameters = read_parameters(spec, given)
    click.echo(
        submit_to(
            host,
            name,
            parameters,
            experiment=experiment,
            run_name=run_name,
            namespace=namespace,
            service_account=service_account,
        )
    )


@pipeline.command()
@click.argument("name")
@PARAM
@click.option("--namespace", default="kubeflow", show_default=True, help="Where its pods run.")
@ACCOUNT
@click.option("--context", help="Context of kubeconfig.  [default: the current one]")
@JSON
def preflight(
    name: str,
    given: tuple[str, ...],
    namespace: str,
    service_account: str,
    context: str | None,
    as_json: bool,
) -> None:
    """Say whether the cluster has what pipeline NAME needs: nodes, claims, secrets, quota.

    Writes nothing there. Exit code 1 if a step could not run.
    """
    from seatrial.doctor.finding import Level  # noqa: PLC0415 - the cluster's client takes a second
    from seatrial.doctor.preflight import preflight as check  # noqa: PLC0415
    from serving.rollout.actuators.cluster import Cluster  # noqa: PLC0415

    spec, platform = read_ir(name)
    values = with_defaults(spec, read_parameters(spec, given))
    found = check(
        Cluster.connect(context), spec, platform, values, namespace, service_account=service_account
    )
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        for finding in found:
            mend = f"; mend: {finding.mend}" if finding.mend else ""
            click.echo(f"{finding.level:8} {finding.topic}: {finding.says}{mend}")
    if any(finding.level is Level.BROKEN for finding in found):
        sys.exit(1)
