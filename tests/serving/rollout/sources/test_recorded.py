"""Intervals that another monitoring has counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving.errors import FileError
from serving.rollout.gate.observation import ArmCounts, Observation
from serving.rollout.sources import Arms, RecordedSource

ARMS = Arms("tiny", "seatrial", "v1", "v2")


def interval(start: float, n: int) -> str:
    arm = ArmCounts(n, 0, 0, (), ())
    one = Observation(start, start + 60, arm, arm, (), True, 0, 10)
    return json.dumps(one.to_json()) + "\n"


def test_reads_interval_after_interval_from_the_watermark(tmp_path: Path) -> None:
    file = tmp_path / "counts.jsonl"
    file.write_text(interval(0, 1) + interval(60, 2))
    source = RecordedSource(file)
    first = source.look(ARMS, None, 500)
    found = []
    snapshot, more = first.snapshot, first.more
    while more:
        look = source.look(ARMS, snapshot, 500)
        snapshot, more = look.snapshot, look.more
        found.append((look.counts.start, look.counts.stable and look.counts.stable.requests))
    assert found == [(0, 1), (60, 2)]


def test_a_file_that_grows_is_followed_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "counts.jsonl"
    file.write_text(interval(0, 1))
    source = RecordedSource(file)
    snapshot = source.look(ARMS, None, 60).snapshot
    snapshot = source.look(ARMS, snapshot, 60).snapshot
    with file.open("a") as out:
        out.write(interval(60, 2)[:30])
    nothing = source.look(ARMS, snapshot, 130)
    assert nothing.counts.stable is None
    assert nothing.snapshot == snapshot
    with file.open("a") as out:
        out.write(interval(60, 2)[30:])
    assert source.look(ARMS, snapshot, 130).counts.start == 60


def test_refuses_intervals_that_overlap(tmp_path: Path) -> None:
    file = tmp_path / "counts.jsonl"
    file.write_text(interval(0, 1) + interval(30, 2))
    with pytest.raises(FileError, match="line 2 begins at 30"):
        RecordedSource(file).look(ARMS, None, 0)


def test_names_the_line_that_is_no_interval(tmp_path: Path) -> None:
    file = tmp_path / "counts.jsonl"
    file.write_text(interval(0, 1) + "{}\n")
    with pytest.raises(FileError, match="line 2"):
        RecordedSource(file).look(ARMS, None, 0)
