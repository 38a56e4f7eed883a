"""The model registry: what there is, which bundle is champion, and the way back to any of them."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from components.deploy.core import STABLE, FolderWriter, deploy
from components.deploy.core import run as deploy_by
from components.register.core import DEFAULT_REGISTRY, DEFAULT_STORAGE, register
from components.register.mlflow_registry import MlflowRegistry
from components.register.registry import CHALLENGER, CHAMPION, ModelRegistry, Version, version_of
from seatrial.cli import gate
from seatrial.cli.play import STATE
from serving.errors import GateError, UsageError
from serving.local import LocalPlayer
from serving.rollout import read_rollout
from serving.rollout.run.lease import held

REGISTRY = click.option(
    "--registry",
    "uri",
    default=DEFAULT_REGISTRY,
    envvar="SEATRIAL_REGISTRY",
    show_default=True,
    show_envvar=True,
    help="sqlite:///FILE, or the URL of an MLflow server.",
)
MODEL = click.option("--model", help="The contract's name, where the registry has several.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
ACTUATOR = click.option(
    "--actuator",
    type=click.Choice(["local", "git", "kubernetes", "none"]),
    default="local",
    show_default=True,
    help="Who makes it happen: the player, a commit, the cluster's API, or you.",
)
PUSH = click.option("--push", is_flag=True, help="With --actuator git: push the commit.")
CONTEXT = click.option("--context", default="", help="kubeconfig's context.")
WAIT = click.option("--wait", default=60.0, show_default=True, help="Seconds to wait for ready.")
HEADINGS = ("MODEL", "VERSION", "BUNDLE", "ALIASES", "MADE (UTC)", "PARENT", "ROC AUC", "RUN")
MODES = {"none": "folder", "git": "git", "kubernetes": "cluster"}


@click.group()
def registry() -> None:
    """Register bundles, list them with their lineage, choose the champion."""


@registry.command()
@click.argument("bundle")
@click.option(
    "--storage", default=DEFAULT_STORAGE, show_default=True, help="Where clusters see it."
)
@click.option("--alias", default=CHALLENGER, show_default=True, help="Empty for none.")
@REGISTRY
def add(bundle: str, storage: str, alias: str, uri: str) -> None:
    """Register BUNDLE, a folder or s3://…; a digest that is there already stays one version."""
    said = register(MlflowRegistry(uri), bundle, storage=storage, alias=alias)
    click.echo(f"{said['model']} {said['version']}\t{said['digest'][:12]}\t{said['uri']}")


@registry.command("list")
@MODEL
@REGISTRY
@JSON
def list_versions(model: str | None, uri: str, as_json: bool) -> None:
    """List the versions of every model, newest first."""
    found = MlflowRegistry(uri)
    versions = [v for name in ([model] if model else found.models()) for v in found.versions(name)]
    if as_json:
        click.echo(json.dumps([_facts(version) for version in versions], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in (
        "MODEL",
        "VERSION",
        "BUNDLE",
        "ALIASES",
        "MADE (UTC)",
        "PARENT",
        "ROC AUC",
        "RUN",
    ):
        table.add_column(
            heading, overflow="fold", no_wrap=heading in {"BUNDLE", "PARENT", "MADE (UTC)"}
        )
    for version in versions:
        entry = version.entry
        auc = entry.quality.get("roc_auc")
        table.add_row(
            entry.model,
            str(version.number),
            entry.digest[:12],
            ", ".join(version.aliases),
            _moment(version),
            entry.parent[:12] or "none",
            "" if auc is None else f"{auc:.4f}",
            entry.run,
        )
    Console().print(table)


@registry.command()
@click.argument("version")
@MODEL
@REGISTRY
@JSON
def show(version: str, model: str | None, uri: str, as_json: bool) -> None:
    """Show VERSION, a number, an alias or a digest: data, run, bundle, parent."""
    facts = _facts(_find(MlflowRegistry(uri), model, version))
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        click.echo(f"{key:20} {', '.join(value) if isinstance(value, list) else value}")


@registry.command()
@click.argument("version")
@MODEL
@REGISTRY
def champion(version: str, model: str | None, uri: str) -> None:
    """Name VERSION champion, and change no traffic: 'seatrial back' does both."""
    found = MlflowRegistry(uri)
    chosen = _find(found, model, version)
    found.set_alias(chosen.entry.model, CHAMPION, chosen.number)
    click.echo(f"{chosen.entry.model} {chosen.number} ({chosen.entry.digest[:12]}) is {CHAMPION}")


@click.command()
@click.argument("version")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@ACTUATOR
@PUSH
@CONTEXT
@STATE
@WAIT
@REGISTRY
def back(
    version: str,
    folder: Path,
    actuator: str,
    push: bool,
    context: str,
    state: Path,
    wait: float,
    uri: str,
) -> None:
    """Go back to VERSION, a registered bundle's digest, number or alias, in the deploy FOLDER.

    A canary that a gate leads there is rolled back first. The bundle becomes stable at once, and
    today's stable stays warm at 0 %, serving until the bundle is ready. Then the bundle is named
    champion.
    """
    began, found = time.monotonic(), MlflowRegistry(uri)
    model = read_rollout(folder).service
    chosen = version_of(found, model, version)
    _end_the_run(folder, wait)
    name = _predictor_name(folder, chosen)
    if actuator == "local":
        player = LocalPlayer(state)

        def apply() -> None:
            player.apply(folder, wait_seconds=wait)

        writer = FolderWriter(folder, apply)
        done = deploy(writer, chosen.entry.uri, name=name, become=STABLE)
    else:
        done = deploy_by(
            folder=folder,
            uri=chosen.entry.uri,
            name=name,
            become=STABLE,
            mode="push" if push and actuator == "git" else MODES[actuator],
            context=context,
        )
    found.set_alias(model, CHAMPION, chosen.number)
    click.echo(
        f"{model}: {done['name']} ({chosen.entry.digest[:12]}, version {chosen.number}) is stable"
        f" and {CHAMPION}; {'applied' if actuator == 'local' else 'written'} in"
        f" {time.monotonic() - began:.1f} s"
    )


def _end_the_run(folder: Path, wait: float) -> None:
    """Has a gate that leads a canary of the folder roll it back, and waits for it to end."""
    runs = gate.runs_of(folder, None)
    if not held(runs.lease_file):
        return
    gate.request(folder, "abort")
    deadline = time.monotonic() + wait
    while held(runs.lease_file):
        if time.monotonic() > deadline:
            raise GateError(f"{folder}: the gate has not ended within {wait:g} s of the abort")
        time.sleep(0.1)


def _predictor_name(folder: Path, chosen: Version) -> str:
    """v and the version's number, unless another bundle has that name in the rollout."""
    name = f"v{chosen.number}"
    taken = any(arm.name == name for arm in read_rollout(folder).arms)
    return f"{name}-{chosen.entry.digest[:6]}" if taken else name


def _find(found: ModelRegistry, model: str | None, version: str) -> Version:
    if model is None:
        models = found.models()
        if len(models) != 1:
            there = ", ".join(models) or "none; 'seatrial registry add' registers a bundle"
            raise UsageError(f"the registry has {len(models)} models ({there}); name one: --model")
        model = models[0]
    return version_of(found, model, version)


def _facts(version: Version) -> dict[str, Any]:
    facts = asdict(version.entry)
    quality = facts.pop("quality")
    aliases, made = list(version.aliases), _moment(version)
    return {**facts, "version": version.number, "aliases": aliases, "made": made, **quality}


def _moment(version: Version) -> str:
    return f"{datetime.fromtimestamp(version.made, UTC):%Y-%m-%d %H:%M:%S}"
