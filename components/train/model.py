"""A trained model of any family: log-odds of its own, one calibration, one file."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from components.files import write_bytes
from components.train.calibration import Calibration, line
from components.train.inputs import matrices
from components.train.logistic import Logistic
from components.train.network import Network, Shape
from components.train.tree import Tree
from serving.bundle import Contract
from serving.bundle.contract import parse_contract
from serving.bundle.rows import Columns
from serving.errors import FileError

FORMAT = "seatrial.model/1"
FILE = "model.pt"
Family = Literal["network", "tree", "logistic"]
FAMILIES: tuple[Family, ...] = ("logistic", "tree", "network")
PLAIN: dict[Family, str] = {"logistic": "logistic_regression", "tree": "gradient_boosting"}
"""Folder of each plain model that was trained too, in BASELINES beside the chosen one."""
BASELINES = "baselines"
Core = Network | Tree | Logistic


@dataclass(frozen=True)
class Model:
    """score = calibration(the core's log-odds of the raw columns)."""

    contract: Contract
    core: Core
    calibration: Calibration


def margins(model: Model, columns: Columns) -> NDArray[np.floating[Any]]:
    """Log-odds of canonical columns before calibration, [rows]."""
    return model.core.margins(model.contract, *matrices(model.contract, columns))


def scores(model: Model, columns: Columns) -> NDArray[np.float32]:
    """The calibrated probability of canonical columns, as the family's own library computes it."""
    return model.calibration.apply(margins(model, columns))


def raw_scores(model: Model, columns: Columns) -> NDArray[np.float32]:
    """The family's own probability, before calibration."""
    return line(1.0, 0.0).apply(margins(model, columns))


def save_model(model: Model, folder: Path) -> None:
    """Writes model.pt: arrays, sizes and the contract they are for."""
    core: dict[str, Any]
    if isinstance(model.core, Network):
        core = {
            "shape": vars(model.core.shape),
            "state": {name: value.cpu() for name, value in model.core.state_dict().items()},
        }
    else:
        core = {
            field.name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for field in fields(model.core)
            for value in [getattr(model.core, field.name)]
        }
    state = {
        "format": FORMAT,
        "contract": model.contract.canonical_json(),
        "kind": model.core.kind,
        "core": core,
        "calibration": asdict(model.calibration),
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(folder / FILE, buffer.getvalue())


def load_model(folder: Path) -> Model:
    """Reads what `save_model` wrote, without executing pickled code. Raises FileError."""
    file = folder / FILE
    if not file.is_file():
        raise FileError(f"{file}: no model here; give the folder that the train step wrote")
    state = torch.load(file, map_location="cpu", weights_only=True)
    if state.get("format") != FORMAT:
        raise FileError(f"{file}: format '{state.get('format')}' is not '{FORMAT}'; train it again")
    contract = parse_contract(state["contract"], str(file))
    held = state["core"]
    core: Core
    if state["kind"] == Network.kind:
        core = Network(contract, Shape(**held["shape"]))
        core.load_state_dict(held["state"])
        core.eval()
    else:
        arrays: dict[str, Any] = {
            n: v.numpy() if isinstance(v, torch.Tensor) else v for n, v in held.items()
        }
        core = Tree(**arrays) if state["kind"] == Tree.kind else Logistic(**arrays)
    return Model(contract, core, Calibration(**state["calibration"]))
