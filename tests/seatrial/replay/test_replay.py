from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pandas as pd
import psutil
import pytest

from seatrial.replay import read_answers
from seatrial.replay.load import AnswerFile, LoadResult, LoadSettings, replay
from seatrial.replay.measure import measure
from seatrial.replay.rows import Requests, read_rows
from seatrial.replay.wires import GrpcClient, HttpClient, grpc_kind, http_score
from serving.errors import DataError, FileError, UsageError
from tests.seatrial.replay.stand_in import StandIn, serving
from tests.support import tiny

INTERNAL, LATE = grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("rows")
    table, contract = folder / "rows.parquet", folder / "contract.json"
    pd.DataFrame(tiny.rows(50)).assign(fraud=0).to_parquet(table)
    contract.write_text(tiny.contract().canonical_json())
    return table, contract


def run(stand_in: StandIn, out: Path, **settings: Any) -> tuple[pd.DataFrame, LoadResult]:
    requests = Requests(tiny.rows(50), tiny.contract(), "tiny")

    async def send() -> LoadResult:
        file = AnswerFile(out)
        async with (
            HttpClient(stand_in.http_address, "tiny", requests, 16) as http,
            GrpcClient(stand_in.grpc_address, requests) as grpc_client,
        ):
            clients = {"http": http, "grpc": grpc_client}
            load = LoadSettings(**settings)
            result = await replay(clients, load, file, asyncio.Event())  # type: ignore[arg-type]
        file.close()
        return result

    result = asyncio.run(send())
    return read_answers(out), result


def command(files: tuple[Path, Path], address: str, out: Path, *more: str) -> list[str]:
    table, contract = files
    given = {"--table": table, "--contract": contract, "--model": "tiny", "--gateway": address}
    flags = [str(part) for pair in given.items() for part in pair]
    return [sys.executable, "-m", "seatrial.replay", *flags, "--answers", str(out), *more]


def wait_for(condition: Callable[[], bool], seconds: float = 15) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "the condition never came true"
        time.sleep(0.02)


def test_sends_rows_in_order_over_both_wires_at_the_asked_rate(tmp_path: Path) -> None:
    with serving(StandIn()) as stand_in:
        frame, result = run(stand_in, tmp_path / "a", rate=200, seconds=1.5, from_row=40)
    assert len(frame) == 300
    assert [(40 + k) % 50 for k in range(300)] == frame["row"].tolist()
    assert (frame["wire"] == "grpc").sum() == 120
    assert (frame["kind"] == "ok").all()
    assert frame["score"].tolist() == pytest.approx((frame["row"] / 1000).tolist())
    assert set(frame["arm"]) == {"v1"}
    assert result.rate == pytest.approx(200, rel=0.15)


def test_both_wires_carry_the_rows_values_one_tensor_a_column(tmp_path: Path) -> None:
    with serving(StandIn()) as stand_in:
        run(stand_in, tmp_path / "a", rate=200, seconds=0.5)
    rows = tiny.rows(50)
    for body in stand_in.bodies:
        row = int(body["id"].removeprefix("row-"))
        assert [i["name"] for i in body["inputs"]] == list(rows)
        assert [i["datatype"] for i in body["inputs"]] == ["FP64", "FP32", "INT64", "BYTES"]
        amount, age, visits, channel = (i["data"][0] for i in body["inputs"])
        assert (amount, visits, channel) == (
            rows["amount"][row],
            rows["visits"][row],
            rows["channel"][row],
        )
        assert age is None if math.isnan(rows["age"][row]) else age == rows["age"][row]
    for message in stand_in.messages:
        row = int(message.id.removeprefix("row-"))
        amount, age, visits, channel = (i.contents for i in message.inputs)
        assert message.model_name == "tiny"
        assert amount.fp64_contents[0] == rows["amount"][row]
        assert age.fp32_contents[0] == pytest.approx(float(rows["age"][row]), nan_ok=True)
        assert visits.int64_contents[0] == rows["visits"][row]
        assert channel.bytes_contents[0].decode() == rows["channel"][row]
    assert any(i["data"] == [None] for body in stand_in.bodies for i in body["inputs"])


def test_tells_the_models_errors_from_everybody_elses_over_http(tmp_path: Path) -> None:
    error = json.dumps({"error": "the model failed"})
    outcomes = {
        1: ((500, "v3", error), "model_error"),
        2: ((504, "v3", error), "model_error"),
        3: ((504, "v3", "upstream request timeout"), "refused"),
        4: ((500, None, error), "refused"),
        5: ((503, None, "no healthy upstream"), "refused"),
        6: ((400, "v1", error), "refused"),
        7: ((200, "v1", "no json"), "refused"),
        8: ((0, None, ""), "transport"),
    }
    with serving(StandIn(http={row: answer for row, (answer, _) in outcomes.items()})) as stand_in:
        frame, _ = run(stand_in, tmp_path / "a", rate=50, seconds=0.2, grpc_share=0)
    kinds = dict(zip(frame["row"], frame["kind"], strict=True))
    assert kinds == {0: "ok", 9: "ok", **{row: kind for row, (_, kind) in outcomes.items()}}
    assert frame.set_index("row")["arm"][[1, 4]].tolist() == ["v3", "nobody"]
    assert frame.set_index("row")["status"].tolist()[:5] == [200, 500, 504, 504, 500]


def test_tells_the_models_errors_from_everybody_elses_over_grpc(tmp_path: Path) -> None:
    outcomes = {
        1: ((INTERNAL, "v3", "the model failed: x"), "model_error"),
        2: ((LATE, "v3", "the model was stopped at its time budget"), "model_error"),
        3: ((LATE, "v3", "upstream request timeout"), "refused"),
        4: ((INTERNAL, None, "Received RST_STREAM with error code 2"), "transport"),
        5: ((grpc.StatusCode.UNAVAILABLE, "v3", "no healthy upstream"), "refused"),
        6: ((grpc.StatusCode.INVALID_ARGUMENT, "v1", "feature 'amount'"), "refused"),
    }
    with serving(StandIn(grpc={row: answer for row, (answer, _) in outcomes.items()})) as stand_in:
        frame, _ = run(stand_in, tmp_path / "a", rate=50, seconds=0.16, grpc_share=1)
    kinds = dict(zip(frame["row"], frame["kind"], strict=True))
    assert kinds == {0: "ok", 7: "ok", **{row: kind for row, (_, kind) in outcomes.items()}}
    by_row = frame.set_index("row")
    assert by_row["arm"][[1, 4]].tolist() == ["v3", "nobody"]
    assert by_row["status"][[0, 1, 5]].tolist() == ["OK", "INTERNAL", "UNAVAILABLE"]


def test_the_clients_own_deadline_is_a_timeout_and_not_the_models() -> None:
    assert grpc_kind("DEADLINE_EXCEEDED", "Deadline Exceeded", None, 20.0) == "timeout"
    assert grpc_kind("DEADLINE_EXCEEDED", "the model was stopped", "v1", 5.0) == "model_error"


def test_unreachable_gateway_is_a_transport_failure_on_both_wires(tmp_path: Path) -> None:
    with serving(StandIn()) as stand_in:
        pass
    frame, _ = run(stand_in, tmp_path / "a", rate=50, seconds=0.2)
    assert set(frame["kind"]) == {"transport"}
    assert set(frame["arm"]) == {"nobody"}


def test_an_answer_without_a_score_is_no_answer_unless_a_rule_decided() -> None:
    assert http_score(b'{"outputs":[{"name":"score","data":[0.25]}]}') == 0.25
    ruled = http_score(b'{"outputs":[{"name":"score","data":[null]}]}')
    assert ruled is not None
    assert math.isnan(ruled)
    assert http_score(b'{"outputs":[{"name":"other","data":[1]}]}') is None


def test_never_has_more_in_flight_than_connections_and_says_that_it_was_slower(
    tmp_path: Path,
) -> None:
    with serving(StandIn(delay=0.1)) as stand_in:
        frame, result = run(
            stand_in, tmp_path / "a", rate=200, seconds=0.5, connections=4, grpc_share=0.5
        )
    assert stand_in.most_in_flight == 4
    assert len(frame) == 100
    assert result.rate < 45
    assert result.late_ms > 1000


def test_measures_the_gateway_with_every_connection_busy(files: tuple[Path, Path]) -> None:
    table, contract = files
    error = json.dumps({"error": "the model failed"})
    with serving(StandIn(http={7: (500, "v1", error)}, delay=0.02)) as stand_in:
        facts = measure(
            stand_in.http_address,
            table=table,
            contract=contract,
            model="tiny",
            connections=8,
            seconds=1,
        )
    assert stand_in.most_in_flight == 8
    assert facts["connections"] == 8
    assert 80 < facts["requests"] < 8 / 0.02 * 1.1
    assert 20 <= facts["p50_ms"] <= facts["p99_ms"]
    assert facts["errors"] == pytest.approx(facts["requests"] / 50, abs=3)
    assert facts["under_100ms"] == pytest.approx(1 - facts["errors"] / facts["requests"], abs=0.05)


def test_process_runs_for_its_seconds_and_prints_the_achieved_rate(
    tmp_path: Path, files: tuple[Path, Path]
) -> None:
    out = tmp_path / "a.jsonl"
    more = ("--rate", "100", "--seconds", "1", "--grpc-share", "0")
    with serving(StandIn()) as stand_in:
        done = subprocess.run(
            command(files, stand_in.http_address, out, *more),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    summary = json.loads(done.stdout)
    assert summary["answers"] == 100 == len(read_answers(out))
    assert summary["asked_rate"] == 100
    assert done.stderr == ""


def test_process_writes_while_it_runs_and_finishes_what_is_in_flight_on_sigterm(
    tmp_path: Path, files: tuple[Path, Path]
) -> None:
    out = tmp_path / "a.jsonl"
    with serving(StandIn(delay=0.5)) as stand_in:
        child = subprocess.Popen(
            command(files, stand_in.http_address, out, "--rate", "20", "--grpc-share", "0"),
            stdout=subprocess.PIPE,
        )
        try:
            wait_for(lambda: out.exists() and len(read_answers(out)) >= 5)
            child.send_signal(signal.SIGTERM)
            output, _ = child.communicate(timeout=10)
        finally:
            child.kill()
    frame = read_answers(out)
    assert child.returncode == 0
    assert json.loads(output)["answers"] == len(frame) == len(stand_in.bodies)
    assert (frame["kind"] == "ok").all()


def test_process_dies_with_its_parent(tmp_path: Path, files: tuple[Path, Path]) -> None:
    out = tmp_path / "a.jsonl"
    with serving(StandIn()) as stand_in:
        argv = command(files, stand_in.http_address, out, "--rate", "20", "--grpc-share", "0")
        start = "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()"
        parent = subprocess.Popen([sys.executable, "-c", start, *argv])
        try:
            wait_for(lambda: out.exists() and len(read_answers(out)) > 0)
            (child,) = psutil.Process(parent.pid).children()
        finally:
            os.kill(parent.pid, signal.SIGKILL)
            parent.wait()
        wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 5)


def test_reads_rows_from_csv_as_from_parquet(tmp_path: Path, files: tuple[Path, Path]) -> None:
    table = tmp_path / "rows.csv"
    pd.DataFrame(tiny.rows(50)).to_csv(table, index=False)
    left = Requests(read_rows(table, tiny.contract()), tiny.contract(), "tiny")
    right = Requests(read_rows(files[0], tiny.contract()), tiny.contract(), "tiny")
    for row in range(50):
        assert left.http_body(row) == right.http_body(row)


def test_refuses_what_it_cannot_replay_in_one_sentence(
    tmp_path: Path, files: tuple[Path, Path]
) -> None:
    empty, short = tmp_path / "empty.parquet", tmp_path / "short.parquet"
    frame = pd.read_parquet(files[0])
    frame[:0].to_parquet(empty)
    frame.drop(columns="age").to_parquet(short)
    (tmp_path / "text.parquet").write_text("no table")
    for table, error, sentence in (
        (tmp_path / "none.parquet", FileError, "no such table"),
        (tmp_path / "text.parquet", FileError, "cannot read the table"),
        (empty, FileError, "the table has no rows"),
        (short, DataError, "column 'age' is missing"),
    ):
        with pytest.raises(error, match=f"{table.name}: {sentence}"):
            read_rows(table, tiny.contract())
    with pytest.raises(UsageError, match="--rate 0: give requests a second above 0"):
        LoadSettings(rate=0)


def test_process_refuses_a_missing_table_with_exit_code_2(
    tmp_path: Path, files: tuple[Path, Path]
) -> None:
    argv = command((tmp_path / "none.parquet", files[1]), "127.0.0.1:1", tmp_path / "a.jsonl")
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "none.parquet: no such table" in done.stderr
    assert not (tmp_path / "a.jsonl").exists()
