"""One small trained model for the tests of every step that needs one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.export.core import run as export
from components.tests.table import small_contract, small_table
from components.train.core import run as train
from components.validate.core import run as validate


@pytest.fixture(scope="session")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checked small table."""
    folder = tmp_path_factory.mktemp("checked")
    small_table().to_parquet(folder / "table.parquet")
    validate(table=folder / "table.parquet", contract=small_contract(), checked=folder / "checked")
    return folder / "checked"


@pytest.fixture(scope="session")
def network(checked: Path) -> Path:
    """A network trained on it."""
    train(checked=checked, network=checked.parent / "network", family="network", epochs=3)
    return checked.parent / "network"


@pytest.fixture(scope="session")
def model(checked: Path, network: Path) -> Path:
    """The network's ONNX graph."""
    export(checked=checked, network=network, model=checked.parent / "model")
    return checked.parent / "model"


@pytest.fixture(scope="session")
def drift(checked: Path) -> Path:
    """What the drift step leaves, without its environment."""
    folder = checked.parent / "drift"
    folder.mkdir()
    np.savez(folder / "reference.npz", amount=np.arange(3.0), score=np.zeros(3))
    (folder / "config.json").write_text('{"detector": "tabular", "window": 200}')
    return folder
