from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.batch_score.core import run
from serving.bundle import Bundle
from serving.bundle.contract import parse_contract
from serving.errors import BundleError, DataError, FileError, UsageError
from tests.serving.predictor.servers import serve
from tests.support import tiny

RULES = [
    {
        "feature": "amount",
        "op": ">",
        "value": 9000,
        "decision": "decline",
        "reason": "amount above 9000",
    },
    {
        "feature": "visits",
        "op": "<=",
        "value": 0,
        "decision": "review",
        "reason": "never seen",
    },
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    contract = parse_contract(json.dumps({**tiny.CONTRACT, "rules": RULES}), "contract")
    folder = tmp_path_factory.mktemp("bundles")
    changed: dict[str, Any] = {"contract.json": contract.canonical_json().encode()}
    return tiny.tiny_bundle(folder, **changed)


def table_of(file: Path, rows: int, seed: int = 0, **columns: Any) -> Path:
    """A file of valid rows with an id, row groups of odd size; `columns` replaces columns."""
    found = {name: pa.array(column) for name, column in tiny.rows(rows, seed).items()}
    pq.write_table(
        pa.table({**found, "when": np.arange(rows), **columns}), file, row_group_size=777
    )
    return file


def answers(out: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(file) for file in sorted(out.glob("part-*.parquet"))])


def test_answers_are_those_of_the_predictor_for_the_same_rows(
    bundle: Bundle, tmp_path: Path
) -> None:
    columns = tiny.rows(100, seed=5)
    columns["amount"][3], columns["amount"][4], columns["channel"][5] = -1.0, 9500.0, "tv"
    table_of(tmp_path / "t.parquet", 100, **{n: pa.array(c) for n, c in columns.items()})
    run(table=tmp_path / "t.parquet", bundle=str(bundle.path), out=tmp_path / "out")
    found = answers(tmp_path / "out").to_pylist()
    asked = [{"name": name} for name in ("score", "decision", "reason")]
    reasons = set()
    with serve(bundle.path, tmp_path / "log") as served:
        for row, batch in enumerate(found):
            one = {name: column[row : row + 1] for name, column in columns.items()}
            online = served.v2(one, outputs=asked)
            if batch["rejected"]:
                assert online.code == 400
                feature, _, says = batch["reason"].partition(": ")
                value, _, expected = says.partition("; ")
                assert all(part in online.error for part in (feature, value, expected))
                assert (batch["score"], batch["decision"]) == (None, None)
                continue
            score, decision, reason = (output["data"][0] for output in online.body["outputs"])
            assert batch["score"] == (None if score is None else pytest.approx(score, abs=1e-6))
            assert (batch["decision"], batch["reason"]) == (decision, reason)
            reasons.add(reason)
    assert [row["row"] for row in found if row["rejected"]] == [3, 5]
    assert len(reasons) == 5


def test_every_input_row_has_one_output_row_in_order_whatever_the_files_and_shards(
    bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for seed, rows in enumerate((1000, 1, 0, 1501)):
        when = np.arange(rows) + 10_000 * seed
        table_of(tmp_path / "in" / f"{seed}.parquet", rows, seed, when=when)
    (tmp_path / "in" / "notes.txt").write_text("not a table")
    for size in (800, 5000):
        out = tmp_path / f"out-{size}"
        said = run(
            table=tmp_path / "in",
            bundle=str(bundle.path),
            out=out,
            keep="when, amount",
            shard_rows=size,
        )
        found = answers(out)
        assert found.column("row").to_pylist() == list(range(2502))
        whole = pq.ParquetDataset(sorted((tmp_path / "in").glob("*.parquet"))).read()
        assert found.column("when").equals(whole.column("when"))
        assert found.column("amount").equals(whole.column("amount"))
        assert said["summary"]["rows"] == 2502
        assert said["summary"]["shards"] == said["written"] == -(-2502 // size)
    expected = tiny.expected_scores(tiny.rows(1000, 0))
    asked = found.column("score").to_numpy()[:1000]
    known = ~np.isnan(asked)
    assert np.abs(asked - expected)[known].max() < 1e-5


def test_rows_that_break_the_contract_are_answered_with_the_reason(
    bundle: Bundle, tmp_path: Path
) -> None:
    visits = pa.array([2.0, 2.5, None, -1.0, 2.0**70, 3.0] * 2)
    amount = pa.array([1.0, 1.0, 1.0, None, 1.0, float("inf")] * 2)
    table_of(tmp_path / "t.parquet", 12, visits=visits, amount=amount)
    said = run(table=tmp_path / "t.parquet", bundle=str(bundle.path), out=tmp_path / "out")
    found = answers(tmp_path / "out").to_pylist()
    assert [row["rejected"] for row in found] == [False, True, True, True, True, True] * 2
    assert [row["reason"] for row in found[1:6]] == [
        "column 'visits': 2.5 is not an int64",
        "feature 'visits': a missing value; it is not nullable",
        "feature 'amount': a missing value; it is not nullable",
        "column 'visits': 1.1805916207174113e+21 is not an int64",
        "feature 'amount': inf; it must be finite",
    ]
    assert said["summary"]["rejected"] == 10


def test_a_large_integer_beside_a_missing_one_is_not_rounded(
    bundle: Bundle, tmp_path: Path
) -> None:
    visits = pa.array([None, 2**53 + 1, 0], type=pa.int64())
    table_of(tmp_path / "t.parquet", 3, visits=visits)
    run(table=tmp_path / "t.parquet", bundle=str(bundle.path), out=tmp_path / "out", keep="visits")
    found = answers(tmp_path / "out").to_pylist()
    assert [row["rejected"] for row in found] == [True, False, False]
    assert [row["visits"] for row in found] == [None, 2**53 + 1, 0]


def test_a_run_that_was_killed_goes_on_and_writes_no_shard_twice(
    bundle: Bundle, tmp_path: Path
) -> None:
    table_of(tmp_path / "t.parquet", 60_000)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "components.batch_score", "--shard_rows", "300"]
    command += ["--table", str(tmp_path / "t.parquet")]
    command += ["--bundle", str(bundle.path), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 30
        while len(list(out.glob("part-*"))) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    before = {file: file.stat().st_mtime_ns for file in out.glob("part-*")}
    assert len(before) < 200, "it was over before it was killed"
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert said["kept"] == len(before)
    assert said["written"] == 200 - len(before)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert answers(out).column("row").to_pylist() == list(range(60_000))
    assert said["summary"]["rows"] == 60_000
    assert not list(out.glob(".part-*"))


def test_workers_share_the_shards_and_two_on_the_same_ones_write_each_once(
    bundle: Bundle, tmp_path: Path
) -> None:
    table_of(tmp_path / "t.parquet", 5000)

    def work(worker: int) -> dict[str, Any]:
        return run(
            table=tmp_path / "t.parquet",
            bundle=str(bundle.path),
            out=tmp_path / "out",
            shard_rows=250,
            worker=worker % 2,
            workers=2,
        )

    assert work(0)["summary"] is None
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(work, range(4)))
    assert sum(one["written"] for one in said) == 10
    assert said[1]["summary"] or said[3]["summary"]
    assert answers(tmp_path / "out").column("row").to_pylist() == list(range(5000))


def test_a_folder_that_holds_another_batch_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    table_of(tmp_path / "t.parquet", 10)
    given: dict[str, Any] = {"bundle": str(bundle.path), "out": tmp_path / "out"}
    run(table=tmp_path / "t.parquet", **given)
    with pytest.raises(UsageError, match="a batch with another 'shard_rows'; give a new folder"):
        run(table=tmp_path / "t.parquet", **given, shard_rows=5)
    table_of(tmp_path / "t.parquet", 10, seed=1)
    with pytest.raises(UsageError, match="another 'table'"):
        run(table=tmp_path / "t.parquet", **given)


def test_columns_that_do_not_fit_are_named_before_anything_is_scored(
    bundle: Bundle, tmp_path: Path
) -> None:
    file, out = tmp_path / "t.parquet", tmp_path / "out"
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"amount": pa.array(["1"] * 9)}, "", "column 'amount' has type string; .* float64"),
        ({"colour": pa.array(["red"] * 9)}, "", "column 'colour' is not in the contract; drop it"),
        ({}, "id", "column 'id' is missing; it is to be kept"),
    ]
    for columns, keep, says in cases:
        table_of(file, 9, **columns)
        with pytest.raises(DataError, match=says):
            run(table=file, bundle=str(bundle.path), out=out, keep=keep)
    with pytest.raises(UsageError, match="keep 'score': the output has a column of that name"):
        run(table=file, bundle=str(bundle.path), out=out, keep="score")
    file.write_bytes(b"PAR1 not really")
    with pytest.raises(FileError, match="cannot read it as Parquet"):
        run(table=file, bundle=str(bundle.path), out=out)
    assert not out.exists()


def test_a_model_that_does_not_give_its_golden_answers_scores_nothing(tmp_path: Path) -> None:
    golden = json.dumps({"columns": tiny.GOLDEN, "score": [0.5, 0.5, 0.5]}).encode()
    changed: dict[str, Any] = {"golden.json": golden}
    bundle = tiny.tiny_bundle(tmp_path, **changed)
    table_of(tmp_path / "t.parquet", 9)
    with pytest.raises(BundleError, match="does not give the stored answers here"):
        run(table=tmp_path / "t.parquet", bundle=str(bundle.path), out=tmp_path / "out")
    assert not os.path.exists(tmp_path / "out")
