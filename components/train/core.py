"""From checked rows to a trained model."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from components.checked import Checked, read_checked
from components.code import code_fingerprint
from components.files import write_bytes, write_json
from components.train.calibration import parse_method
from components.train.candidates import (
    Plan,
    choose,
    compare,
    parse_family,
    plan_facts,
    refit,
)
from components.train.checkpoint import Checkpoint
from components.train.curves import page
from components.train.fit import Epoch, Hardware, Settings
from components.train.model import BASELINES, PLAIN, Model, save_model
from components.train.search import search, with_changes
from serving.errors import UsageError


def run(
    *,
    checked: Path,
    network: Path,
    curves: Path | None = None,
    family: str = "auto",
    epochs: int = Settings.epochs,
    patience: int = Settings.patience,
    learning_rate: float = Settings.learning_rate,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    calibration: str = "auto",
    refit_all: bool = True,
    checkpoints: str = "",
    trials: int = 0,
    folds: int = 3,
    tuned: str = "",
) -> dict[str, Any]:
    """Trains network, trees and logistic regression and keeps the best.

    checked: folder that the validate step wrote.
    network: folder to write; gets the model of whichever family was best, and the plain ones.
    curves: HTML file to write, the learning curve and the candidates.
    family: auto compares all; network, tree or logistic trains that one only.
    epochs: most passes of the network over the training rows.
    patience: passes without a better validation loss after which training stops.
    learning_rate: the network's largest step size; it falls to zero along a cosine.
    seed: seed of the weights and of the order of rows.
    device: auto, cpu or cuda; auto is CUDA where there is one.
    precision: auto, float32 or bfloat16; auto is bfloat16 on CUDA.
    calibration: auto, platt or isotonic; auto takes isotonic where there are enough positives.
    refit_all: fit the best once more, on all rows before the test slice.
    checkpoints: folder or s3:// URI for a checkpoint after every epoch; empty for none.
    trials: settings to try over time folds before training; 0 for none.
    folds: time folds that each trial is judged on.
    tuned: JSON list of what trial steps returned; empty for the default settings.

    Returns what it wrote to training.json. Raises FileError or UsageError.
    """
    bounds = (("epochs", epochs, 1), ("patience", patience, 1), ("seed", seed, 0))
    for name, value, least in (*bounds, ("trials", trials, 0), ("folds", folds, 1)):
        if value < least:
            raise UsageError(f"{name} {value} is too small; give {least} or more")
    if not 0 < learning_rate < 1:
        raise UsageError(f"learning_rate {learning_rate:g} is out of range; give one in (0, 1)")
    plan = Plan(
        family=parse_family(family),
        network=Settings(epochs=epochs, patience=patience, learning_rate=learning_rate, seed=seed),
        calibration=parse_method(calibration),
        refit=refit_all,
        hardware=Hardware.choose(device, precision),
    )
    plan = with_changes(plan, tuned)
    table = read_checked(checked)
    searched: list[dict[str, Any]] = []
    if trials:
        plan, searched = search(table.contract, table.before_test(), plan, trials, folds)
    model, plain, training = _trained(table, plan, checkpoints)
    training = {"seed": seed, **training, "trials": searched}
    save_model(model, network)
    shutil.rmtree(network / BASELINES, ignore_errors=True)  # an earlier run's
    for name, baseline in plain.items():
        save_model(baseline, network / BASELINES / name)
    write_json(network / "training.json", training)
    if curves is not None:
        write_bytes(curves, page(training).encode())
    return training


def _trained(
    table: Checked, plan: Plan, store: str
) -> tuple[Model, dict[str, Model], dict[str, Any]]:
    """The model, the plain models by name, and training.json; checkpoints are then removed."""
    kept: list[Checkpoint] = []

    def checkpoints(part: str) -> Checkpoint | None:
        if not store:
            return None
        decides = [part, table.facts["data"], plan_facts(plan), code_fingerprint()]
        kept.append(Checkpoint(store, [*decides, torch.__version__]))
        return kept[-1]

    candidates = compare(
        table.contract,
        table.part("train"),
        table.part("validation"),
        plan,
        checkpoints=checkpoints,
        on_epoch=_tell,
    )
    best = choose(candidates, table.part("validation").weight)
    rows = table.before_test()
    final = {
        candidate.family: refit(
            table.contract, candidate, rows, plan, checkpoints=checkpoints, on_epoch=_tell
        )
        if plan.refit
        else Model(table.contract, candidate.core, candidate.calibration)
        for candidate in candidates
        if candidate is best or candidate.family in PLAIN
    }
    model = final[best.family]
    plain = {PLAIN[family]: final[family] for family in final if family in PLAIN}
    curve = next((list(c.curve) for c in candidates if c.family == "network"), [])
    judged = [epoch for epoch in curve if epoch.validation_loss is not None]
    stopped = min(judged, key=lambda epoch: epoch.validation_loss or 0.0) if judged else None
    for checkpoint in kept:
        checkpoint.remove()
    facts = {
        "family": best.family,
        "candidates": [candidate.facts() for candidate in candidates],
        "settings": plan_facts(plan),
        "calibration": model.calibration.facts(),
        "parameters": model.core.size(),
        "best_epoch": None if stopped is None else stopped.epoch,
        "validation_loss": None if stopped is None else stopped.validation_loss,
        "curve": [vars(epoch) for epoch in curve],
        "torch": torch.__version__,
    }
    return model, plain, facts


def _tell(epoch: Epoch) -> None:
    held_out = epoch.validation_loss
    words = "" if held_out is None else f", validation loss {held_out:.5f}"
    sys.stderr.write(f"epoch {epoch.epoch}: training loss {epoch.train_loss:.5f}{words}\n")
