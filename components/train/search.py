"""A bounded search for settings, judged over time folds that only ever look back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from components.checked import Rows
from components.train.candidates import Plan, compare
from components.train.model import Family
from serving.bundle import Contract
from serving.errors import DataError, UsageError

Changes = dict[str, Any]
FIRST_SHARE = 0.4
"""Share of the rows that the first fold trains on; the folds after it train on all before them."""
NETWORK = {"learning_rate", "weight_decay"}
SHAPE = {"width", "depth", "dropout"}
TREE = {"tree_learning_rate", "leaves", "least_rows", "penalty"}


def time_folds(rows: Rows, folds: int) -> Iterator[tuple[Rows, Rows]]:
    """Pairs of earlier rows to fit and the rows right after them to judge.

    Raises DataError where a slice would lack one of the classes.
    """
    edges = np.linspace(FIRST_SHARE, 1.0, folds + 1) * len(rows)
    for number, (start, end) in enumerate(zip(edges[:-1].round(), edges[1:].round(), strict=True)):
        fitted = rows.take(slice(0, int(start)))
        judged = rows.take(slice(int(start), int(end)))
        for part in (fitted, judged):
            if not 0 < (part.weight * part.label).sum() < part.weight.sum():
                raise DataError(
                    f"time fold {number + 1} of {folds} lacks positive or negative rows;"
                    " give fewer folds or more rows"
                )
        yield fitted, judged


def fold_scores(contract: Contract, rows: Rows, plan: Plan, folds: int) -> list[float]:
    """Average precision of the plan's one family on each time fold."""
    return [
        compare(contract, fitted, judged, plan)[0].average_precision
        for fitted, judged in time_folds(rows, folds)
    ]


def suggest(trial: Any, families: tuple[Family, ...]) -> Changes:
    """Settings that an Optuna trial draws: a family, then what matters for it."""
    tunable = [family for family in families if family != "logistic"] or ["tree"]
    family = trial.suggest_categorical("family", tunable)
    if family == "tree":
        return {
            "family": family,
            "tree_learning_rate": trial.suggest_float("tree_learning_rate", 0.02, 0.2, log=True),
            "leaves": trial.suggest_int("leaves", 4, 32, log=True),
            "least_rows": trial.suggest_int("least_rows", 10, 200, log=True),
            "penalty": trial.suggest_float("penalty", 0.1, 100, log=True),
        }
    return {
        "family": family,
        "learning_rate": trial.suggest_float("learning_rate", 5e-4, 1e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 0.03, 3.0, log=True),
        "width": trial.suggest_categorical("width", [32, 64, 128]),
        "depth": trial.suggest_int("depth", 1, 3),
        "dropout": trial.suggest_float("dropout", 0.0, 0.3),
    }


def search(
    contract: Contract, rows: Rows, plan: Plan, trials: int, folds: int
) -> tuple[Plan, list[dict[str, Any]]]:
    """Tries `trials` settings one after the other, each next to what went well before (TPE).

    Returns the plan with the best settings of each family, and every trial's facts. All families
    of the plan are still compared afterwards. Equal seeds try equal settings.
    """
    import optuna  # noqa: PLC0415

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=plan.network.seed)
    )
    found: list[dict[str, Any]] = []
    for _ in range(trials):
        trial = study.ask()
        result = tried(contract, rows, plan, suggest(trial, plan.families), folds)
        study.tell(trial, result["average_precision"])
        found.append(result)
    return best_of(plan, found), found


def sampled(number: int, seed: int, families: tuple[Family, ...]) -> Changes:
    """The settings of trial `number` of a search whose trials run side by side and know nothing
    of one another: drawn at random from the same ranges."""
    import optuna  # noqa: PLC0415

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.RandomSampler(seed=seed * 100_003 + number)
    return suggest(optuna.create_study(sampler=sampler).ask(), families)


def tried(
    contract: Contract, rows: Rows, plan: Plan, changes: Changes, folds: int
) -> dict[str, Any]:
    """One trial's settings and its average precision over the folds."""
    family = changes["family"]
    scores = fold_scores(contract, rows, replace(changed(plan, changes), family=family), folds)
    return {"settings": changes, "average_precision": float(np.mean(scores)), "folds": scores}


def best_of(plan: Plan, found: list[dict[str, Any]]) -> Plan:
    """The plan with the best trial of each family."""
    for result in sorted(found, key=lambda result: float(result["average_precision"])):
        plan = changed(plan, result["settings"])
    return plan


def with_changes(plan: Plan, text: str) -> Plan:
    """The plan with what trial steps found: a JSON list of their results. Raises UsageError."""
    if not text:
        return plan
    try:
        found = json.loads(text)
        return best_of(plan, found)
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"tuned: not the results of trial steps ({error}); give a JSON list of them, or nothing"
        ) from None


def changed(plan: Plan, changes: Changes) -> Plan:
    """The plan with a trial's settings. Raises KeyError for a name that is no setting."""
    unknown = set(changes) - NETWORK - SHAPE - TREE - {"family"}
    if unknown:
        raise KeyError(f"'{min(unknown)}' is no setting")
    shape = replace(plan.network.shape, **{n: v for n, v in changes.items() if n in SHAPE})
    network = {n: v for n, v in changes.items() if n in NETWORK}
    tree = {n.removeprefix("tree_"): v for n, v in changes.items() if n in TREE}
    return replace(
        plan,
        network=replace(plan.network, shape=shape, **network),
        tree=replace(plan.tree, **tree),
    )
