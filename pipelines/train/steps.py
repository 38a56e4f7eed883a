"""The steps from a table to a bundle, which the pipelines train, retrain and tune share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kfp import dsl

from components.bundle.component import bundle
from components.evaluate.component import evaluate
from components.export.component import export
from components.fit_drift.component import fit_drift
from components.ingest.component import ingest
from components.train.component import train
from components.trial.component import trial
from components.validate.component import validate
from pipelines.cluster import Pool, Storage, on_cpu, on_gpu, with_storage

TOGETHER = 6
"""Trials at one time."""


@dataclass(frozen=True)
class Given:
    """What a bundle is made from; each field is a pipeline's parameter."""

    table: Any
    contract: Any
    out: Any
    parent: Any
    champion: Any
    seed: Any
    run_id: Any


@dataclass(frozen=True)
class Trials:
    """A search before training: its trials' numbers, a parameter too, and their arguments."""

    numbers: Any
    arguments: Mapping[str, Any]


def bundle_steps(
    given: Given,
    *,
    split: Mapping[str, Any],
    training: Mapping[str, Any],
    drift: Mapping[str, Any],
    pool: Pool,
    storage: Storage,
    cached: bool = True,
    trials: Trials | None = None,
) -> Any:
    """The task that writes the bundle, at the end of those that lead to it.

    split, training, drift: further arguments of validate, train and fit_drift. cached: whether KFP
    may take a step from its cache.
    """
    ingesting = ingest(source=given.table, contract=given.contract)
    # The table's path says nothing about its content, so only what follows may come from a cache:
    # it is keyed by the rows.
    ingesting.set_caching_options(False)
    _place(ingesting, "Read the table", storage)
    checking = validate(
        table=ingesting.outputs["table"], contract=given.contract, parent=given.champion, **split
    )
    _place(checking, "Check the table", storage, memory="8Gi")
    checked = checking.outputs["checked"]
    tuned = {} if trials is None else {"tuned": _tried(checked, trials, given.seed)}
    fitting = train(checked=checked, seed=given.seed, **training, **tuned)
    fitting.set_display_name("Train the model")
    with_storage(fitting, storage)
    on_gpu(fitting, pool)
    exporting = export(checked=checked, network=fitting.outputs["network"])
    _place(exporting, "Export to ONNX")
    model = exporting.outputs["model"]
    evaluating = evaluate(checked=checked, model=model, champion=given.champion, seed=given.seed)
    _place(evaluating, "Measure the model", storage, memory="8Gi")
    watching = fit_drift(
        data=evaluating.outputs["scored"], contract=given.contract, seed=given.seed, **drift
    )
    _place(watching, "Fit the drift reference")
    bundling = bundle(
        checked=checked,
        network=fitting.outputs["network"],
        model=model,
        evaluation=evaluating.outputs["evaluation"],
        drift=watching.outputs["drift"],
        out=given.out,
        parent=given.parent,
        run_id=given.run_id,
    )
    bundling.set_caching_options(False)
    _place(bundling, "Write the bundle", storage)
    if not cached:
        for task in (checking, fitting, exporting, evaluating, watching):
            task.set_caching_options(False)
    return bundling


def _tried(checked: Any, trials: Trials, seed: Any) -> Any:
    """The results of all trials. They are small and many: any CPU node takes one."""
    with dsl.ParallelFor(trials.numbers, parallelism=TOGETHER, name="Trials") as number:
        trying = trial(checked=checked, number=number, seed=seed, **trials.arguments)
        _place(trying, "Try settings", memory="8Gi")
        trying.set_retry(2, backoff_duration="30s")
    return dsl.Collected(trying.output)


def _place(task: Any, name: str, storage: Storage | None = None, memory: str = "4Gi") -> None:
    task.set_display_name(name)
    on_cpu(task, memory=memory)
    if storage is not None:
        with_storage(task, storage)
