"""The audit log holds every prediction, within its size, and forgets on demand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from serving.bundle import Bundle
from serving.errors import FileError
from serving.predictor.audit import erase, find, rotated
from tests.serving.predictor.servers import ROW, serve, wait_for


def test_writes_finds_rotates_and_erases(tmp_path: Path, bundle: Bundle) -> None:
    log = tmp_path / "audit.jsonl"
    flags = [f"--audit_log={log}", "--audit_max_bytes=4096", "--audit_files=2"]
    columns = {name: [value] * 5 for name, value in ROW.items()}
    with serve(bundle.path, tmp_path / "log", *flags, "--audit_fields=amount") as server:
        sent = server.v2(columns, id="kept").body["outputs"]
        server.v2(columns, id="private")
        wait_for(lambda: server.metric("seatrial_audit_rows_total") == 10, 5)
        lines = find(log, "kept")
        assert [line["row"] for line in lines] == [0, 1, 2, 3, 4]
        assert lines[0]["bundle"] == bundle.digest
        assert lines[0]["input"] == {"amount": 12.5}
        assert [line["decision"] for line in lines] == sent[1]["data"]
        assert lines[0]["score"] == pytest.approx(sent[0]["data"][0])
        assert erase(log, "private") == 5
        assert find(log, "private") == []
        assert len(find(log, "kept")) == 5
        for turn in range(12):
            server.v2(columns, id=f"turn-{turn}")
            expected = 15 + 5 * turn
            wait_for(lambda n=expected: server.metric("seatrial_audit_rows_total") == n, 5)
    assert rotated(log, 2).exists()
    assert not rotated(log, 3).exists()
    assert find(log, "kept") == []
    assert len(find(log, "turn-11")) == 5


def test_the_command_answers_and_forgets(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_text('{"id": "a", "row": 0}\n{"id": "b", "row": 0}\nbroken a\n')
    command = [sys.executable, "-m", "serving.predictor.audit"]

    def run(action: str, request_id: str) -> str:
        return subprocess.run(
            [*command, action, log, request_id], capture_output=True, text=True, check=True
        ).stdout

    assert json.loads(run("find", "a")) == {"id": "a", "row": 0}
    assert run("erase", "a") == "erased 1 lines\n"
    assert log.read_text() == '{"id": "b", "row": 0}\nbroken a\n'


def test_names_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none\.jsonl"):
        find(tmp_path / "none.jsonl", "a")
