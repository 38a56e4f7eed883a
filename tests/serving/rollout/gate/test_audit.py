from __future__ import annotations

from pathlib import Path

import pytest

from serving.errors import GateError
from serving.rollout.gate import AuditLog, Entry, Phase, read, verify
from serving.rollout.gate.audit import GENESIS, head_file
from tests.serving.rollout.gate.looks import Run, plan_of


def run_to(path: Path, *, looks: int = 4) -> Run:
    run = Run(plan_of(), AuditLog(path))
    for _ in range(looks):
        run.split(1000)
    return run


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    run_to(path)
    return path


def test_an_untouched_log_verifies(log: Path) -> None:
    entries = verify(log)
    assert [entry.kind for entry in entries] == ["run", "look", "look", "look", "look"]
    assert entries[0].previous == GENESIS
    assert verify(log, entries[-1].hash) == entries


def test_finds_any_changed_byte(log: Path) -> None:
    data = log.read_bytes()
    # Every seventh byte is in every field of some line; all of them would take a minute.
    for at in [*range(0, len(data), 7), *(i for i, b in enumerate(data) if b == ord("\n"))]:
        for flip in (0x01, 0x20):
            changed = bytearray(data)
            changed[at] ^= flip
            log.write_bytes(bytes(changed))
            with pytest.raises(GateError, match="line|last"):
                verify(log)


def test_finds_any_changed_byte_of_the_head(log: Path) -> None:
    head = head_file(log)
    data = head.read_bytes()
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 0x01
        head.write_bytes(bytes(changed))
        with pytest.raises(GateError, match="head"):
            verify(log)


def test_finds_a_removed_line_wherever_it_was(log: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    for at in range(len(lines)):
        log.write_bytes(b"".join(lines[:at] + lines[at + 1 :]))
        with pytest.raises(GateError, match="removed"):
            verify(log)


def test_finds_a_removed_line_by_the_hash_that_a_record_remembers(log: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    head = read(log)[-1].hash
    log.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(GateError, match="removed or added at the end"):
        verify(log, head)


def test_finds_reordered_lines(log: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    lines[2], lines[3] = lines[3], lines[2]
    log.write_bytes(b"".join(lines))
    with pytest.raises(GateError, match="line 3: .*reordered"):
        verify(log)


def test_finds_an_inserted_line(log: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    for at in range(len(lines) + 1):
        for extra in (lines[0], lines[-1], b"\n", b"{}\n"):
            log.write_bytes(b"".join([*lines[:at], extra, *lines[at:]]))
            with pytest.raises(GateError):
                verify(log)


def test_finds_a_line_whose_own_hash_was_made_right_again(log: Path) -> None:
    entries = read(log)
    lines = [entry.line for entry in entries]
    decision = {**entries[2].body["decision"], "reason": "all is well"}
    forged = Entry(3, "look", {**entries[2].body, "decision": decision}, entries[2].previous)
    lines[2] = forged.line
    log.write_text("".join(lines))
    with pytest.raises(GateError, match="line 4"):
        verify(log)


def test_an_empty_or_missing_log_is_no_proof(tmp_path: Path) -> None:
    with pytest.raises(GateError, match="No such file"):
        verify(tmp_path / "audit.jsonl")
    (tmp_path / "audit.jsonl").touch()
    with pytest.raises(GateError, match="empty"):
        verify(tmp_path / "audit.jsonl")


def test_a_line_cut_off_by_a_crash_is_removed_on_opening(log: Path) -> None:
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"body":{"deci')
    with pytest.raises(GateError, match="line 6"):
        verify(log)
    assert AuditLog(log).head == read(log)[-1].hash
    assert log.read_bytes() == whole


def test_a_head_left_behind_by_a_crash_is_mended_on_opening(log: Path) -> None:
    entries = read(log)
    head_file(log).write_text(f"4 {entries[3].hash}\n")
    verify(log)
    AuditLog(log)
    assert head_file(log).read_text() == f"5 {entries[4].hash}\n"


def test_appending_the_last_entry_again_does_nothing(log: Path) -> None:
    opened = AuditLog(log)
    assert opened.last is not None
    before = log.read_bytes()
    opened.append(Entry.from_line(opened.last.line))
    assert log.read_bytes() == before


def test_an_entry_that_does_not_follow_is_refused(log: Path) -> None:
    opened = AuditLog(log)
    stale = opened.planned(plan_of())
    opened.append(opened.planned(plan_of(alpha=0.01)))
    with pytest.raises(GateError, match="another gate"):
        opened.append(stale)


def test_a_damaged_log_is_not_appended_to(log: Path) -> None:
    log.write_bytes(log.read_bytes().replace(b"1000", b"1001", 1))
    with pytest.raises(GateError, match="line"):
        AuditLog(log)


def test_a_look_says_what_was_counted_known_asked_and_done(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    run = run_to(path, looks=2)
    run.until(Phase.PROMOTED)
    last = verify(path)[-1].body
    assert last["observation"]["canary"]["requests"] == 1000
    assert last["decision"]["action"]["kind"] == "promote"
    evidence = last["decision"]["evidence"][0]
    assert evidence["good"] >= evidence["good_at"] > 2.99
    assert evidence["against"] < evidence["against_at"]
    assert "proven at 100 %" in last["decision"]["reason"]
