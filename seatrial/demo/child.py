"""A stage's heavy work in a process of its own, so that it can be ended at any moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from serving.errors import SeatrialError, StageError
from serving.lifeline import die_with_parent

Work = Callable[..., Any]
"""Takes keyword arguments and `progress`, a callable for one line of text."""


def run_in_child(
    work: Work, arguments: Mapping[str, Any], *, log: Path, progress: Callable[[str], None]
) -> Any:
    """Runs `work(**arguments, progress=...)` in a new process and returns what it returns.

    What the child prints goes to `log`. A SeatrialError raised there is raised here as a
    StageError with its sentence; a child that ends otherwise is a StageError naming its exit code.
    An exception here, KeyboardInterrupt included, ends the child.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_main, args=(work, dict(arguments), log, theirs, os.getpid()))
    child.start()
    theirs.close()
    try:
        while True:
            kind, value = ours.recv()
            if kind == "progress":
                progress(value)
            elif kind == "done":
                return value
            else:
                raise StageError(value)
    except EOFError:
        child.join(5)
        raise StageError(
            f"its process ended with code {child.exitcode} before it was done; see {log}"
        ) from None
    finally:
        child.kill()
        child.join()
        ours.close()


def _main(work: Work, arguments: dict[str, Any], log: Path, pipe: Connection, parent: int) -> None:
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        result = work(**arguments, progress=lambda line: pipe.send(("progress", line)))
    except SeatrialError as error:
        pipe.send(("failed", str(error)))
    else:
        pipe.send(("done", result))
