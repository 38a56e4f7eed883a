from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from components.bundle.core import run
from components.code import code_fingerprint
from components.evaluate.core import run as evaluate
from components.export.core import run as export
from components.scoring import model_scores, open_model
from components.tests.table import small_contract, small_table
from components.train.core import run as train
from components.validate.core import run as validate
from serving.bundle import canonical_columns, open_bundle
from serving.errors import FileError, UsageError


def bundle_of(work: Path, drift: Path, *, seed: int = 0, parent: str = "") -> dict[str, str]:
    work.mkdir()
    small_table(1200).to_parquet(work / "table.parquet")
    steps = {name: work / name for name in ("checked", "network", "model", "evaluation")}
    checked, network, model, evaluation = steps.values()
    validate(table=work / "table.parquet", contract=small_contract(), checked=checked)
    train(checked=checked, network=network, epochs=1, seed=seed)
    export(checked=checked, network=network, model=model)
    evaluate(checked=checked, model=model, evaluation=evaluation, scored=work / "scored", draws=20)
    return run(**steps, drift=drift, out=str(work / "bundles"), parent=parent, run_id=work.name)


def test_equal_data_seed_and_code_give_an_equal_digest(tmp_path: Path, drift: Path) -> None:
    first = bundle_of(tmp_path / "first", drift)
    second = bundle_of(tmp_path / "second", drift)
    other = bundle_of(tmp_path / "other", drift, seed=1)
    assert first["digest"] == second["digest"] != other["digest"]
    assert first["path"] != second["path"]


def test_the_bundle_tells_where_it_comes_from(tmp_path: Path, drift: Path) -> None:
    made = bundle_of(tmp_path / "run-7", drift, parent="ab" * 32)
    bundle = open_bundle(Path(made["path"]), contract=small_contract())
    lineage = bundle.read_json("lineage.json")
    assert lineage["parent"] == "ab" * 32
    assert lineage["code"] == code_fingerprint()
    assert len(lineage["data"]) == 64
    assert str(tmp_path) not in json.dumps(lineage)
    beside = Path(f"{made['path']}.attestation.json")
    assert json.loads(beside.read_text())["run"] == "run-7"
    card = bundle.read("card.md").decode()
    for said in (
        "ROC AUC",
        "## Intended use",
        "## Limits",
        "It knows nothing after when 17",
        "By time",
    ):
        assert said in card
    assert "| gradient boosting |" in card
    assert lineage["data"] in card


def test_the_bundled_model_reproduces_its_golden_rows(tmp_path: Path, drift: Path) -> None:
    bundle = open_bundle(Path(bundle_of(tmp_path / "run", drift)["path"]))
    golden = bundle.read_json("golden.json")
    score = model_scores(
        open_model(bundle.read("model.onnx")),
        canonical_columns(bundle.contract, golden["columns"]),
    )
    assert np.abs(score - np.array(golden["score"])).max() <= 1e-6


def test_refuses_a_parent_that_is_no_digest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="parent 'v1' is not a bundle digest"):
        run(
            checked=tmp_path,
            network=tmp_path,
            model=tmp_path,
            evaluation=tmp_path,
            drift=tmp_path,
            out=str(tmp_path / "bundles"),
            parent="v1",
        )


def test_names_the_step_whose_folder_is_missing(
    checked: Path, network: Path, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileError, match="folder that the evaluate step wrote"):
        run(
            checked=checked,
            network=network,
            model=model,
            evaluation=tmp_path / "none",
            drift=tmp_path,
            out=str(tmp_path / "bundles"),
        )
    assert not (tmp_path / "bundles").exists()
