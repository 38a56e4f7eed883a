from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from moto.server import ThreadedMotoServer
from sklearn.metrics import roc_auc_score

from components.checked import Checked, read_checked
from components.train.checkpoint import Checkpoint
from components.train.core import run
from components.train.fit import Epoch, Hardware, Settings, balance, batch_size, fit
from components.train.inputs import matrices
from components.train.model import FILE
from components.train.network import Network
from serving.errors import FileError, UsageError


@pytest.fixture(scope="module")
def table(checked: Path) -> Checked:
    return read_checked(checked)


def fitted(table: Checked, **settings: Any) -> tuple[Network, list[Epoch]]:
    chosen = Settings(**settings)
    return fit(table.contract, table.part("train"), table.part("validation"), chosen)


def losses(curve: list[Epoch]) -> list[float]:
    return [epoch.validation_loss for epoch in curve if epoch.validation_loss is not None]


def test_learns_what_the_table_holds(table: Checked) -> None:
    network, curve = fitted(table, epochs=5)
    test = table.part("test")
    margins = network.margins(table.contract, *matrices(table.contract, test.columns))
    assert roc_auc_score(test.label, margins) > 0.8
    assert losses(curve)[-1] < losses(curve)[0]


def test_equal_seeds_give_equal_networks_and_others_do_not(table: Checked) -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        return list(fitted(table, epochs=1, seed=seed)[0].state_dict().values())

    first, again, other = weights(3), weights(3), weights(4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_stops_when_the_validation_loss_no_longer_falls(table: Checked) -> None:
    _, curve = fitted(table, epochs=60, patience=2, learning_rate=0.05)
    found = losses(curve)
    assert len(found) < 60
    assert found.index(min(found)) == len(found) - 3


def test_bfloat16_reaches_the_same_loss(table: Checked) -> None:
    settings = Settings(epochs=3)
    parts = table.part("train"), table.part("validation")
    _, plain = fit(table.contract, *parts, settings)
    _, mixed = fit(table.contract, *parts, settings, hardware=Hardware.choose("cpu", "bfloat16"))
    assert losses(mixed) != losses(plain)
    assert min(losses(mixed)) == pytest.approx(min(losses(plain)), rel=0.02)


class Interrupted(Exception):
    pass


def test_a_resumed_run_ends_with_the_same_weights(table: Checked, tmp_path: Path) -> None:
    parts = table.part("train"), table.part("validation")
    whole, curve = fit(table.contract, *parts, Settings(epochs=4))

    def stop(epoch: Epoch) -> None:
        if epoch.epoch == 1:
            raise Interrupted

    kept = Checkpoint(str(tmp_path), "this run")
    with pytest.raises(Interrupted):
        fit(table.contract, *parts, Settings(epochs=4), checkpoint=kept, on_epoch=stop)
    seen: list[int] = []
    resumed, again = fit(
        table.contract,
        *parts,
        Settings(epochs=4),
        checkpoint=kept,
        on_epoch=lambda epoch: seen.append(epoch.epoch),
    )
    assert seen == [2, 3]
    assert again == curve
    for ours, theirs in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_run_killed_between_epochs_continues_and_ends_with_the_same_file(
    checked: Path, tmp_path: Path
) -> None:
    def command(network: str) -> list[str]:
        given = {"checked": checked, "network": tmp_path / network, "epochs": 12, "patience": 12}
        given |= {"family": "network", "checkpoints": tmp_path / "checkpoints"}
        options = [part for k, v in given.items() for part in (f"--{k}", str(v))]
        return [sys.executable, "-m", "components.train", *options]

    with subprocess.Popen(command("first"), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch 2:"):
                os.kill(process.pid, signal.SIGKILL)
                break
        process.stderr.read()
    assert not (tmp_path / "first").exists()
    assert len(list((tmp_path / "checkpoints").glob("*.pt"))) == 1
    resumed = subprocess.run(command("first"), capture_output=True, text=True, check=True)
    assert resumed.stderr.splitlines()[0].startswith(("epoch 3:", "epoch 4:"))
    assert list((tmp_path / "checkpoints").iterdir()) == []
    facts = run(checked=checked, network=tmp_path / "whole", family="network", **LONG)
    assert json.loads(resumed.stdout)["curve"] == facts["curve"]
    whole, continued = ((tmp_path / name / FILE).read_bytes() for name in ("whole", "first"))
    assert whole == continued


LONG: dict[str, Any] = {"epochs": 12, "patience": 12}


def test_a_checkpoint_of_other_settings_is_not_taken(tmp_path: Path) -> None:
    Checkpoint(str(tmp_path), {"seed": 0}).save({"step": 1})
    assert Checkpoint(str(tmp_path), {"seed": 1}).load() is None
    assert Checkpoint(str(tmp_path), {"seed": 0}).load() == {"step": 1}


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    kept = Checkpoint(str(tmp_path), "run")
    kept.save({"step": 1})
    next(tmp_path.glob("*.pt")).write_bytes(b"half a file")
    with pytest.raises(FileError, match=r"\.pt: not a checkpoint .*; remove it"):
        kept.load()


def test_checkpoints_lie_in_an_object_store_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        kept = Checkpoint(
            f"s3://bucket/runs?scheme=http&endpoint_override={host}:{port}"
            "&region=us-east-1&allow_bucket_creation=true",
            "run",
        )
        assert kept.load() is None
        kept._remote.create_dir("bucket")  # type: ignore[union-attr]
        kept.save({"step": 1})
        kept.save({"step": 2})
        assert kept.load() == {"step": 2}
        kept.remove()
        assert kept.load() is None
    finally:
        server.stop()


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
        ({"family": "forest"}, "family 'forest' is unknown; choose auto, logistic, tree, network"),
        ({"device": "tpu"}, "device 'tpu' is unknown; choose auto, cpu or cuda"),
        ({"precision": "int8"}, "precision 'int8' is unknown"),
        ({"calibration": "beta"}, "calibration 'beta' is unknown"),
        ({"tuned": "[{}]"}, "tuned: not the results of trial steps"),
        ({"tuned": '[{"settings": {"depht": 1}, "average_precision": 1}]'}, "'depht' is no"),
        ({"checkpoints": "ftp://host/x"}, "ftp://host/x: checkpoints cannot be kept there"),
    ],
)
def test_refuses_impossible_settings(
    checked: Path, tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        run(checked=checked, network=tmp_path / "network", **options)
    assert not (tmp_path / "network").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch finds a GPU here")
def test_a_gpu_that_is_asked_for_and_not_there_is_an_error() -> None:
    with pytest.raises(UsageError, match="device 'cuda': torch finds no GPU here"):
        Hardware.choose("cuda", "auto")
    assert Hardware.choose("auto", "auto").facts() == {"device": "cpu", "precision": "float32"}
