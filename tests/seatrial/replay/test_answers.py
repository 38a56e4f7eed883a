from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.replay import (
    Answer,
    by_arm,
    by_second,
    failed_by_move,
    percentiles,
    read_answers,
    traffic_facts,
)
from seatrial.replay.answers import encode
from serving.errors import DataError, FileError

START = 1000.0


def written(path: Path, answers: list[Answer], tail: bytes = b"") -> Path:
    path.write_bytes(b"".join(encode(a) for a in answers) + tail)
    return path


def answers() -> list[Answer]:
    ok = [Answer(START + i / 10, "http", "v1", 200, "ok", 1.0 + i, i, 0.5) for i in range(20)]
    return [
        *ok,
        Answer(START + 0.55, "grpc", "v2", "OK", "ok", 7.0, 20, 0.1),
        Answer(START + 1.25, "grpc", "v2", "INTERNAL", "model_error", 9.0, 21, None),
        Answer(START + 1.35, "http", None, 0, "transport", 2.0, 22, None),
        Answer(START + 1.45, "http", "v2", 503, "refused", 2.0, 23, None),
    ]


def test_reads_back_what_was_written_in_the_order_of_sending(tmp_path: Path) -> None:
    frame = read_answers(written(tmp_path / "a.jsonl", answers()[::-1]))
    assert frame["t"].is_monotonic_increasing
    assert len(frame) == 24
    last = frame.loc[frame["row"] == 23].iloc[0]
    assert (last["status"], last["kind"], last["wire"]) == (503, "refused", "http")
    assert frame["score"].isna().sum() == 3
    assert set(frame["arm"]) == {"v1", "v2", "nobody"}


def test_tolerates_a_torn_last_line_and_an_empty_file(tmp_path: Path) -> None:
    torn = written(tmp_path / "a.jsonl", answers(), tail=b'{"t": 12.0, "wi')
    assert len(read_answers(torn)) == 24
    assert traffic_facts(read_answers(written(tmp_path / "b.jsonl", [])))["answers"] == 0


def test_refuses_a_broken_line_inside_and_a_missing_file(tmp_path: Path) -> None:
    broken = written(tmp_path / "a.jsonl", answers()[:2], tail=b'{"t": 1}\n')
    with pytest.raises(DataError, match=r"a\.jsonl: line 3 is not an answer"):
        read_answers(broken)
    with pytest.raises(FileError, match=r"none\.jsonl: cannot read the answers"):
        read_answers(tmp_path / "none.jsonl")


def test_a_model_error_is_not_counted_as_failed_by_the_move(tmp_path: Path) -> None:
    frame = read_answers(written(tmp_path / "a.jsonl", answers()))
    assert failed_by_move(frame) == 2
    assert failed_by_move(frame[frame["kind"].isin(["ok", "model_error"])]) == 0


def test_sums_by_arm_and_by_second_account_for_every_answer(tmp_path: Path) -> None:
    frame = read_answers(written(tmp_path / "a.jsonl", answers()))
    arms = {(r["arm"], r["wire"]): r for r in by_arm(frame)}
    assert {k: (r["requests"], r["errors"]) for k, r in arms.items()} == {
        ("v1", "http"): (20, 0),
        ("v2", "grpc"): (2, 1),
        ("v2", "http"): (1, 1),
        ("nobody", "http"): (1, 1),
    }
    assert arms["v1", "http"]["p50_ms"] == 10.5
    assert arms["v2", "http"]["p99_ms"] is None
    seconds = by_second(frame, START)
    assert sum(r["requests"] for r in seconds) == 24
    assert [r["requests"] for r in seconds if r["arm"] == "v1"] == [10, 10]
    assert {r["t"] for r in seconds} == {0, 1}


def test_traffic_facts_have_the_rate_between_first_and_last_answer(tmp_path: Path) -> None:
    facts = traffic_facts(read_answers(written(tmp_path / "a.jsonl", answers())), START)
    assert facts["seconds"] == 1.9
    assert facts["rate"] == 12.6
    assert (facts["answers"], facts["model_errors"], facts["failed_by_move"]) == (24, 1, 2)


def test_percentiles_of_nothing_are_none(tmp_path: Path) -> None:
    frame = read_answers(written(tmp_path / "a.jsonl", []))
    assert percentiles(frame["ms"]) == (None, None)
