from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving.deadletters.__main__ import main
from tests.e2e.running import free_port


def call(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, body, named)
        return connection.getresponse().status
    finally:
        connection.close()


def test_an_event_is_kept_with_its_attributes_and_sigterm_ends_it(tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "letters.jsonl"
    words = ["-m", "serving.deadletters", f"--port={port}", f"--file={file}"]
    process = subprocess.Popen(
        [sys.executable, *words], env={**os.environ, "SEATRIAL_HOST": "127.0.0.1"}
    )
    try:
        deadline = time.monotonic() + 15
        while True:
            try:
                assert call(port, "GET", "/healthz") == 200
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        headers = {"ce_specversion": "1.0", "ce_id": "7", "ce_source": "/m", "ce_type": "t"}
        # Knative tells why it gave up in extensions of the event.
        sent = {**headers, "ce_knativeerrorcode": "503", "content_type": "application/json"}
        assert call(port, "POST", "/", b'{"a": 1}', **sent) == 202
        kept = json.loads(file.read_text())
        assert (kept["id"], kept["knativeerrorcode"], kept["data"]) == ("7", "503", {"a": 1})
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


def test_a_folder_that_is_not_mounted_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"--file={tmp_path / 'none' / 'letters.jsonl'}"]) == 2
    assert "mount a volume there" in capsys.readouterr().err
