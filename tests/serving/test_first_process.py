"""What ends a program that is still importing, as the first process of a container is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PROGRAMS = {
    "serving.deadletters": "aiohttp",
    "serving.drift": "uvicorn",
    "serving.predictor": "numpy",
    "serving.retrain": "uvicorn",
    "serving.rollout.standing": "prometheus_client",
}
"""Each with a package that it imports early and that takes its time."""


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_still_imports_ends_at_sigterm(program: str, tmp_path: Path) -> None:
    (tmp_path / f"{PROGRAMS[program]}.py").write_text(
        textwrap.dedent(
            """
            import time
            print("importing", flush=True)
            time.sleep(60)
            """
        )
    )
    process = subprocess.Popen(
        [sys.executable, "-m", program],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        # The kernel keeps signals from a first process that has no handler for them.
        preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),  # noqa: PLW1509
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"importing\n"
        process.terminate()
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.communicate()
