"""A child process that is kept running: restarted after a crash, gone with the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from serving.lifeline import die_with_parent
from serving.local.identity import Identity, identity_of

# Kubelet's shape with a laptop's numbers: at once, then 1, 2, 4 … 60 s; forgotten after 10 min up.
FIRST_BACK_OFF_S, LAST_BACK_OFF_S, FORGET_AFTER_S = 1.0, 60.0, 600.0


class Keeper:
    """Starts a process, appends its output to a log, and starts it again whenever it ends."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        folder: Path,
        log: Path,
        changed: Callable[[], None],
    ) -> None:
        self.log = log
        self.starts = 0
        self.ends = 0
        self.identity: Identity | None = None
        """Of the running process; None between two starts and after the end."""
        self.last_exit: int | None = None
        self._argv, self._env, self._folder, self._changed = argv, env, folder, changed
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def restarts(self) -> int:
        return max(0, self.starts - 1)

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._task = asyncio.create_task(self._keep())

    async def stop(self, grace_seconds: float) -> None:
        """SIGTERM, after the grace SIGKILL, for the whole process group. May be called again."""
        process = self._process
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if process is not None and process.returncode is None:
            _signal_group(process.pid, signal.SIGTERM)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), grace_seconds)
            _signal_group(process.pid, signal.SIGKILL)
            await process.wait()
        self._process = self.identity = None
        self._changed()

    async def _keep(self) -> None:
        crashes = 0
        while True:
            began = time.monotonic()
            self.starts += 1
            self.last_exit = await self._run()
            self.ends += 1
            self.identity = None
            crashes = 1 if time.monotonic() - began > FORGET_AFTER_S else crashes + 1
            self._changed()
            if crashes > 1:
                await asyncio.sleep(min(FIRST_BACK_OFF_S * 2 ** (crashes - 2), LAST_BACK_OFF_S))

    async def _run(self) -> int:
        """One run from start to end; its exit code, 127 if it could not be started."""
        with self.log.open("ab") as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._argv,
                    env=dict(self._env),
                    cwd=self._folder,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=partial(die_with_parent, os.getpid()),
                )
            except (OSError, subprocess.SubprocessError) as error:
                log.write(f"cannot start {self._argv[0]}: {error}\n".encode())
                return 127
        self._process, self.identity = process, identity_of(process.pid)
        self._changed()
        code = await process.wait()
        _signal_group(process.pid, signal.SIGKILL)  # whatever it left behind
        self._process = None
        return code


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
