"""What a kill -9 leaves behind, found by the next command of any kind and ended."""

from __future__ import annotations

import contextlib
import fcntl
from pathlib import Path

from serving.local.identity import end_all, reap
from serving.local.state import LOCK, SOCKET, STATE_FILE, read_state

GRACE_S = 4.5


def end_orphans(folder: Path) -> str | None:
    """Ends what runs for an owner that is gone, and children whose supervisor is gone.

    Returns a sentence about what was found, None where all is well. A pid whose start time is
    another is never touched. Raises PlayerError when the state file is not ours.
    """
    state = read_state(folder)
    if state is None:
        return None
    if not state.supervisor.alive:
        why = f"the player's supervisor (pid {state.supervisor.pid}) died without ending"
    elif state.owner is not None and not state.owner.alive:
        why = f"the process that started the player (pid {state.owner.pid}) is gone"
    else:
        return None
    found = {state.supervisor, *state.children.values()}
    alive = [process for process in found if process.alive]
    # A supervisor that hears SIGTERM ends its children in order; what is left then gets its own.
    end_all([state.supervisor], GRACE_S)
    end_all(alive, GRACE_S)
    reap(state.supervisor.pid)
    forget(folder)
    return f"{why}; ended {len(alive)} of its processes"


def end_at_once(folder: Path) -> None:
    """Ends a supervisor that does not obey, and all its children."""
    state = read_state(folder)
    if state is not None:
        end_all([state.supervisor, *state.children.values()], 0)
        reap(state.supervisor.pid)
        forget(folder)


def forget(folder: Path) -> None:
    """Removes what told of a run that is over; logs and events stay."""
    for name in (STATE_FILE, SOCKET):
        with contextlib.suppress(FileNotFoundError):
            (folder / name).unlink()


def locked(folder: Path) -> bool:
    """True while a supervisor works in the folder, however early or late in its life."""
    with contextlib.suppress(FileNotFoundError), (folder / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
