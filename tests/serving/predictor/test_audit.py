"""The audit log holds every prediction, as long as configured, and forgets on demand."""

from __future__ import annotations

import json
import os
import stat
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from seatrial.cli import cli
from serving.bundle import Bundle
from serving.errors import FileError
from serving.predictor.audit_files import AuditFiles, erase, find, rotated
from tests.serving.predictor.servers import ROW, serve, wait_for

DAY = 86400.0


def line(request_id: str, when: float = 0.0) -> bytes:
    told = datetime.fromtimestamp(when, UTC).isoformat()
    return json.dumps({"time": told, "id": request_id, "row": 0}).encode() + b"\n"


def test_writes_finds_rotates_and_erases(tmp_path: Path, bundle: Bundle) -> None:
    log = tmp_path / "audit.jsonl"
    flags = [f"--audit_log={log}", "--audit_max_bytes=4096", "--audit_files=2", "--audit_days=1"]
    old = rotated(log, 1)
    old.write_bytes(line("old", time.time() - 2 * DAY))
    os.utime(old, (0, time.time() - 2 * DAY))
    columns = {name: [value] * 5 for name, value in ROW.items()}
    with serve(bundle.path, tmp_path / "log", *flags, "--audit_fields=amount") as server:
        wait_for(lambda: not old.exists(), 5)
        sent = server.v2(columns, id="kept").body["outputs"]
        server.v2(columns, id="private")
        wait_for(lambda: server.metric("seatrial_audit_rows_total") == 10, 5)
        lines = find(log, "kept")
        assert [line["row"] for line in lines] == [0, 1, 2, 3, 4]
        assert lines[0]["bundle"] == bundle.digest
        assert lines[0]["input"] == {"amount": 12.5}
        assert [line["decision"] for line in lines] == sent[1]["data"]
        assert lines[0]["score"] == pytest.approx(sent[0]["data"][0])
        named = orjson.dumps({"instances": [ROW]})
        server.exchange("POST", "/v1/models/tiny:predict", named, {"x-request-id": "on-v1"})
        wait_for(lambda: len(find(log, "on-v1")) == 1, 5)
        assert erase(log, "on-v1") == 1
        assert erase(log, "private") == 5
        assert find(log, "private") == []
        assert len(find(log, "kept")) == 5
        for turn in range(12):
            server.v2(columns, id=f"turn-{turn}")
            expected = 16 + 5 * turn
            wait_for(lambda n=expected: server.metric("seatrial_audit_rows_total") == n, 5)
    assert rotated(log, 2).exists()
    assert not rotated(log, 3).exists()
    assert find(log, "kept") == []
    assert len(find(log, "turn-11")) == 5


def test_a_line_goes_when_it_was_kept_long_enough_and_not_before(tmp_path: Path) -> None:
    now = time.time()
    log = tmp_path / "audit.jsonl"
    files = AuditFiles(log, max_bytes=2**20, files=4, keep_seconds=8 * DAY)
    for age in (9, 7, 5, 3):
        log.write_bytes(line(f"{age} days ago", now - age * DAY))
        os.utime(log, (now, now - age * DAY))
        files.sweep(now - age * DAY + 2.1 * DAY)
        assert not log.exists()  # a quarter of the time has passed: the next file begins
    files.append(line("today", now))
    files.sweep(now)
    assert find(log, "9 days ago") == []
    for kept in ("7 days ago", "5 days ago", "3 days ago", "today"):
        assert len(find(log, kept)) == 1
    files.sweep(now + 20 * DAY)
    files.sweep(now + 40 * DAY)
    with pytest.raises(FileError):
        find(log, "today")


def test_a_log_without_an_age_is_never_swept(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    assert AuditFiles(log, max_bytes=1, files=1).sweep_seconds is None
    assert AuditFiles(log, max_bytes=1, files=8, keep_seconds=DAY).sweep_seconds == 60


def test_the_command_answers_and_forgets_also_in_older_files(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_bytes(line("a") + line("b") + b"broken a\n")
    older = rotated(log, 1)
    older.write_bytes(line("a") + line('"a"'))
    older.chmod(0o640)
    os.utime(older, (1000, 1000))
    run = CliRunner().invoke
    found = run(cli, ["audit", "find", "a", "--log", str(log), "--json"])
    assert [told["id"] for told in json.loads(found.stdout)] == ["a", "a"]
    assert len(run(cli, ["audit", "find", "a", "--log", str(log)]).stdout.splitlines()) == 2
    erased = run(cli, ["audit", "erase", "a", "--log", str(log), "--json"])
    assert json.loads(erased.stdout) == {"id": "a", "erased": 2}
    assert log.read_bytes() == line("b") + b"broken a\n"
    assert older.read_bytes() == line('"a"')
    assert (older.stat().st_mtime, stat.S_IMODE(older.stat().st_mode)) == (1000, 0o640)
    again = run(cli, ["audit", "find", "a"], env={"SEATRIAL_AUDIT_LOG": str(log)})
    assert (again.exit_code, "nothing" in again.stdout) == (0, True)
    assert sorted(tmp_path.iterdir()) == [tmp_path / ".audit.jsonl.lock", log, older]


def test_an_erasure_that_is_cut_off_leaves_the_log_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_bytes(line("a") + line("b"))

    def no_room(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(FileError, match="No space left"):
        erase(log, "a")
    assert log.read_bytes() == line("a") + line("b")


def test_names_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none\.jsonl"):
        find(tmp_path / "none.jsonl", "a")
    with pytest.raises(FileError, match="cannot use"):
        erase(tmp_path / "no" / "audit.jsonl", "a")
