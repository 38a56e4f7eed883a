"""From checked rows to a trained network."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from components.checked import read_checked
from components.files import write_json
from components.train.fit import Epoch, Settings, fit
from components.train.network import save_network
from serving.errors import UsageError


def run(
    *,
    checked: Path,
    network: Path,
    epochs: int = Settings.epochs,
    patience: int = Settings.patience,
    learning_rate: float = Settings.learning_rate,
    seed: int = 0,
) -> dict[str, Any]:
    """Trains the network on a checked table.

    checked: folder that the validate step wrote.
    network: folder to write.
    epochs: most passes over the training rows.
    patience: passes without a better validation loss after which training stops.
    learning_rate: largest step size; it falls to zero along a cosine.
    seed: seed of the weights and of the order of rows.

    Returns what it wrote to training.json. Raises FileError or UsageError.
    """
    for name, value, least in (("epochs", epochs, 1), ("patience", patience, 1), ("seed", seed, 0)):
        if value < least:
            raise UsageError(f"{name} {value} is too small; give {least} or more")
    if not 0 < learning_rate < 1:
        raise UsageError(f"learning_rate {learning_rate:g} is out of range; give one in (0, 1)")
    table = read_checked(checked)
    settings = Settings(epochs=epochs, patience=patience, learning_rate=learning_rate, seed=seed)
    trained, curve = fit(
        table.contract, table.part("train"), table.part("validation"), settings, _tell
    )
    best = min(curve, key=lambda epoch: epoch.validation_loss)
    training = {
        "seed": seed,
        "settings": asdict(settings),
        "parameters": sum(p.numel() for p in trained.parameters()),
        "best_epoch": best.epoch,
        "validation_loss": best.validation_loss,
        "curve": [asdict(epoch) for epoch in curve],
        "torch": torch.__version__,
    }
    save_network(trained, network)
    write_json(network / "training.json", training)
    return training


def _tell(epoch: Epoch) -> None:
    sys.stderr.write(
        f"epoch {epoch.epoch}: training loss {epoch.train_loss:.5f},"
        f" validation loss {epoch.validation_loss:.5f}\n"
    )
