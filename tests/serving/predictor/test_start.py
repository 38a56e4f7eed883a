"""The predictor serves only what it has verified, only where it was told, or says why not."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from serving.bundle import Bundle
from tests.serving.predictor.servers import Served, free_port, launch, serve
from tests.support.tiny import GOLDEN, model_bytes, tiny_bundle


def refusal(model_dir: Path, folder: Path, *flags: str) -> tuple[int, str]:
    """The exit code and the one line that was logged."""
    server = launch(model_dir, folder / "log", *flags)
    code = server.process.wait(90)
    lines = server.log.read_text().splitlines()
    assert len(lines) == 1, lines
    return code, lines[0]


def bundle_with_golden(folder: Path, golden: bytes) -> Path:
    files: dict[str, Any] = {"golden.json": golden}
    return tiny_bundle(folder, **files).path


def listening(process_id: int) -> set[tuple[str, int]]:
    """(address, port) of the process's listening sockets, IPv4 in its plain form."""
    return {
        (c.laddr.ip.removeprefix("::ffff:"), c.laddr.port)
        for c in psutil.net_connections("inet")
        if c.pid == process_id and c.status == psutil.CONN_LISTEN and c.laddr
    }


def test_refuses_a_tampered_bundle(tmp_path: Path, bundle: Bundle) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle.path, copy)
    (copy / "model.onnx").write_bytes(model_bytes(bias=1.0))
    code, line = refusal(copy, tmp_path)
    assert code == 1
    assert "model.onnx" in line
    assert "altered" in line


def test_refuses_a_bundle_whose_golden_rows_it_does_not_reproduce(tmp_path: Path) -> None:
    golden = json.dumps({"columns": GOLDEN, "score": [0.5, 0.5, 0.5]}).encode()
    code, line = refusal(bundle_with_golden(tmp_path, golden), tmp_path)
    assert code == 1
    assert "golden row 0" in line


@pytest.mark.parametrize("golden", [b"nonsense", b'{"columns": {}, "score": []}'])
def test_refuses_a_bundle_without_readable_golden_rows(tmp_path: Path, golden: bytes) -> None:
    code, line = refusal(bundle_with_golden(tmp_path, golden), tmp_path)
    assert code == 1
    assert "golden.json" in line


def test_refuses_a_folder_without_a_bundle(tmp_path: Path) -> None:
    code, line = refusal(tmp_path / "nothing", tmp_path)
    assert code == 1
    assert "no bundle" in line


def test_names_a_taken_port(tmp_path: Path, bundle: Bundle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as owner:
        port = owner.getsockname()[1]
        code, line = refusal(bundle.path, tmp_path, f"--http_port={port}")
    assert code == 1
    assert str(port) in line
    assert "--http_port" in line


def test_names_a_taken_grpc_port(tmp_path: Path, bundle: Bundle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as owner:
        port = owner.getsockname()[1]
        server = launch(bundle.path, tmp_path / "log", f"--grpc_port={port}")
        assert server.process.wait(90) == 1
    last = server.log.read_text().splitlines()[-1]
    assert str(port) in last
    assert "--grpc_port" in last


def test_binds_loopback_only_when_told_so(served: Served) -> None:
    expected = {("127.0.0.1", served.http_port), ("127.0.0.1", served.grpc_port)}
    assert listening(served.process.pid) == expected


def test_logs_nothing_per_request(served: Served) -> None:
    before = served.log.read_text()
    for _ in range(5):
        assert served.v1({"amount": 1, "age": 2, "visits": 3, "channel": "web"}).code == 200
        assert served.ready()
    assert served.log.read_text() == before


def test_runs_on_uvloop(served: Served) -> None:
    maps = Path(f"/proc/{served.process.pid}/maps").read_text()
    assert re.search(r"uvloop/loop.*\.so", maps)


def test_kserves_own_flags_still_work(tmp_path: Path, bundle: Bundle) -> None:
    with serve(bundle.path, tmp_path / "log", "--enable_grpc=false") as server:
        assert listening(server.process.pid) == {("127.0.0.1", server.http_port)}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--http_port=eighty"], "eighty"),
        (["--colour=red"], "colour"),
        (["--workers=0"], "workers"),
    ],
)
def test_bad_settings_end_with_2_and_one_sentence(flags: list[str], said: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "serving.predictor", *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert shown.returncode == 2, shown.stderr
    assert shown.stdout == ""
    assert len(shown.stderr.splitlines()) == 1, shown.stderr
    assert said in shown.stderr


def test_every_setting_is_an_environment_variable_too(tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "serving.predictor", "--grpc_port", str(free_port())],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "SEATRIAL_HTTP_PORT": "no", "SEATRIAL_MODEL_DIR": str(tmp_path)},
    )
    assert shown.returncode == 2
    assert "SEATRIAL_HTTP_PORT" in shown.stderr
