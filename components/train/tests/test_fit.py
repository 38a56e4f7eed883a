from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from components.checked import Checked, read_checked
from components.train.core import run
from components.train.fit import Settings, balance, batch_size, calibrate, fit
from components.train.network import scores
from serving.errors import UsageError


@pytest.fixture(scope="module")
def table(checked: Path) -> Checked:
    return read_checked(checked)


def test_learns_what_the_table_holds(table: Checked) -> None:
    network, curve = fit(
        table.contract, table.part("train"), table.part("validation"), Settings(epochs=5)
    )
    test = table.part("test")
    assert roc_auc_score(test.label, scores(network, test.columns)) > 0.8
    assert curve[-1].validation_loss < curve[0].validation_loss


def test_scores_are_probabilities_of_the_weighted_rows(table: Checked) -> None:
    network, _ = fit(
        table.contract, table.part("train"), table.part("validation"), Settings(epochs=3)
    )
    test = table.part("test")
    rate = np.average(test.label, weights=test.weight)
    mean = np.average(scores(network, test.columns), weights=test.weight)
    assert mean == pytest.approx(rate, abs=0.05)


def test_equal_seeds_give_equal_networks_and_others_do_not(table: Checked) -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        settings = Settings(epochs=1, seed=seed)
        network, _ = fit(table.contract, table.part("train"), table.part("validation"), settings)
        return list(network.state_dict().values())

    first, again, other = weights(3), weights(3), weights(4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_stops_when_the_validation_loss_no_longer_falls(table: Checked) -> None:
    settings = Settings(epochs=60, patience=2, learning_rate=0.05)
    _, curve = fit(table.contract, table.part("train"), table.part("validation"), settings)
    losses = [epoch.validation_loss for epoch in curve]
    assert len(losses) < 60
    assert losses.index(min(losses)) == len(losses) - 3


def test_calibration_finds_the_slope_and_offset_that_made_the_labels() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=20_000))
    chance = torch.sigmoid(0.5 * logits - 2)
    label = (torch.from_numpy(rng.random(20_000)) < chance).double()
    slope, offset = calibrate(logits, label, torch.ones(20_000))
    assert slope == pytest.approx(0.5, abs=0.08)
    assert offset == pytest.approx(-2, abs=0.08)


def test_calibration_never_turns_the_order_round() -> None:
    label = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    slope, _ = calibrate(torch.tensor([-9.0, 9.0, 8.0, 7.0]), label, torch.ones(4))
    assert slope > 0


def test_rare_positives_count_more_and_small_tables_get_small_batches() -> None:
    assert balance(0.5) == 1
    assert balance(0.01) == pytest.approx(99**0.5)
    assert batch_size(2000) == 64
    assert batch_size(10_000_000) == 1024


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"epochs": 0}, "epochs 0 is too small; give 1 or more"),
        ({"seed": -1}, "seed -1 is too small; give 0 or more"),
        ({"learning_rate": 1.5}, "learning_rate 1.5 is out of range"),
    ],
)
def test_refuses_impossible_settings(
    checked: Path, tmp_path: Path, options: dict[str, int], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        run(checked=checked, network=tmp_path / "network", **options)
    assert not (tmp_path / "network").exists()
