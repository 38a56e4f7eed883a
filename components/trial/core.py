"""One trial of a search: settings drawn by its number, judged over time folds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.checked import read_checked
from components.train.candidates import Plan, parse_family
from components.train.fit import Settings
from components.train.search import sampled, tried
from serving.errors import UsageError


def run(
    *,
    checked: Path,
    number: int,
    family: str = "auto",
    epochs: int = Settings.epochs,
    folds: int = 3,
    seed: int = 0,
) -> dict[str, Any]:
    """Draws the settings of one trial and judges them on time folds before the test slice.

    checked: folder that the validate step wrote.
    number: which trial of the search this is; each draws settings of its own.
    family: auto draws one too; network or tree tries that one only.
    epochs: most passes of the network over the rows of a fold.
    folds: time folds that the trial is judged on.
    seed: seed of the search; equal seeds and numbers try equal settings.

    Returns settings, average precision and that of each fold: one entry of train's `tuned`. Raises
    FileError, DataError or UsageError.
    """
    bounds = (("number", number, 0), ("epochs", epochs, 1), ("folds", folds, 1), ("seed", seed, 0))
    for name, value, least in bounds:
        if value < least:
            raise UsageError(f"{name} {value} is too small; give {least} or more")
    table = read_checked(checked)
    plan = Plan(family=parse_family(family), network=Settings(epochs=epochs, seed=seed))
    changes = sampled(number, seed, plan.families)
    return tried(table.contract, table.before_test(), plan, changes, folds)
