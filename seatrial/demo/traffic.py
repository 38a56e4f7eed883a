"""The replay process, watched: held-out rows through the gateway while the rollout moves."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from seatrial.replay import read_answers
from serving.errors import StageError

ENDS_WITHIN = 25.0
"""Seconds the replay may take to finish what is in flight; its per-request limit is 20."""


class Traffic:
    """One `python -m seatrial.replay`, from `start` to `stop`."""

    def __init__(
        self,
        *,
        table: Path,
        contract: Path,
        model: str,
        gateway: str,
        rate: float,
        connections: int,
        answers: Path,
        log: Path,
    ) -> None:
        self.answers = answers
        self.log = log
        self._arguments = [
            *("--table", str(table), "--contract", str(contract), "--model", model),
            *("--gateway", gateway, "--rate", f"{rate:g}", "--connections", str(connections)),
            *("--answers", str(answers)),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.started = 0.0

    def start(self) -> None:
        """Starts the replay and waits for its first answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "seatrial.replay", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.started = time.time()
        deadline = time.monotonic() + 30
        while not (self.answers.exists() and self.answers.stat().st_size):
            self.check()
            if time.monotonic() > deadline:
                raise StageError(f"the replay sent nothing within 30 s; see {self.log}")
            time.sleep(0.1)

    def check(self) -> None:
        """Raises StageError when the replay is no longer running."""
        if self._process is None or self._process.poll() is not None:
            code = None if self._process is None else self._process.returncode
            raise StageError(f"the replay ended by itself with code {code}; see {self.log}")

    def seconds(self) -> float:
        """Seconds since the replay was started."""
        return round(time.time() - self.started, 1)

    def answers_so_far(self) -> Any:
        """A DataFrame with one row per answer the client has received."""
        return read_answers(self.answers)

    def stop(self) -> None:
        """Lets what is in flight finish. Raises StageError when the replay failed."""
        self.check()
        assert self._process is not None  # noqa: S101 - check() has seen it
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self.kill()
            raise StageError(f"the replay did not end within {ENDS_WITHIN:g} s") from None
        if code != 0:
            raise StageError(f"the replay ended with code {code}; see {self.log}")

    def kill(self) -> None:
        """Ends the replay at once, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
