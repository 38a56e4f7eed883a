"""Stands for `python3` in the commands of kfp.local: runs each component in its own environment.

Called as `python -m pipelines.interpreter ARGS…` with kfp's arguments for Python. Writes marked
lines about the component's start and end to its output, where `pipelines.local` finds them, and
ends the component when the pipeline's process ends.
"""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipelines.finished import ALWAYS, keep, key_of, recall
from serving.lifeline import die_with_parent

MARK = "seatrial-pipeline: "
OWNER, INTERPRETERS = "SEATRIAL_PIPELINE_OWNER", "SEATRIAL_PIPELINE_INTERPRETERS"
FINISHED = "SEATRIAL_PIPELINE_FINISHED"
"""Environment: the pid of the pipeline's process; JSON of component -> Python; where finished steps
are remembered."""
_RAISED = re.compile(r"^([A-Za-z_][\w.]*): (\S.*)$")
"""The last line of a traceback; a log line may look like it, but the traceback comes last."""


def tell(**fact: Any) -> None:
    sys.stdout.write(MARK + json.dumps(fact) + "\n")
    sys.stdout.flush()


def main() -> int:
    die_with_parent()
    arguments = sys.argv[1:]
    stage = arguments[arguments.index("--function_to_execute") + 1]
    python = json.loads(os.environ[INTERPRETERS])[stage]
    request = json.loads(arguments[arguments.index("--executor_input") + 1])
    owner = os.pidfd_open(int(os.environ[OWNER]))
    tell(stage=stage, state="started")
    finished = Path(os.environ[FINISHED])
    key = "" if stage in ALWAYS else key_of(stage, Path(python), request)
    if key and recall(finished, key, request):
        tell(stage=stage, state="reused")
        return 0
    child = subprocess.Popen(
        [python, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
    )
    raised = _forward(child, owner)
    status = child.wait()
    if status == 0:
        if key:
            keep(finished, key, request)
        tell(stage=stage, state="finished")
        return 0
    ended = f"signal {-status}" if status < 0 else f"exit status {status}"
    kind, error = raised or ("", f"it ended with {ended}")
    tell(stage=stage, state="failed", kind=kind, error=error)
    return 1


def _forward(child: subprocess.Popen[bytes], owner: int) -> tuple[str, str] | None:
    """Copies the child's output to ours; returns the last exception it printed."""
    if child.stdout is None:
        raise ValueError("the child's output is not a pipe")
    raised: tuple[str, str] | None = None
    rest = b""
    output = child.stdout.fileno()
    while True:
        ready, _, _ = select.select([output, owner], [], [])
        if owner in ready:
            sys.exit(1)
        chunk = os.read(output, 65536)
        *lines, rest = (rest + chunk).split(b"\n") if chunk else [rest, b""]
        for line in lines:
            text = line.decode(errors="replace")
            found = _RAISED.match(text)
            raised = (found[1], found[2]) if found else raised
            sys.stdout.write(text + "\n")
        sys.stdout.flush()
        if not chunk:
            return raised


if __name__ == "__main__":
    sys.exit(main())
