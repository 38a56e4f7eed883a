"""Runs a pipeline with kfp.local, in a process of its own that `pipelines.local` starts.

kfp.local is configured through globals and prints what it does; here both disturb nobody.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from kfp import local

from pipelines.interpreter import FINISHED, INTERPRETERS, OWNER, tell
from serving.lifeline import die_with_parent


def main() -> int:
    die_with_parent(int(sys.argv[2]))
    request = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    images: dict[str, str] = request["interpreters"]
    package = request["pipeline"].replace("-", "_")
    pipeline = import_module(f"pipelines.{package}.pipeline").PIPELINE
    _without_retries(pipeline.pipeline_spec)
    executors = pipeline.pipeline_spec.deployment_spec["executors"]
    chosen = {
        label.removeprefix("exec-").replace("-", "_"): images[_name(spec["container"]["image"])]
        for label, spec in executors.items()
    }
    os.environ[INTERPRETERS] = json.dumps(chosen)
    os.environ[OWNER] = str(os.getpid())
    os.environ[FINISHED] = str(Path(request["root"]) / "finished")
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=request["root"])
    # kfp writes sys.executable in place of `python3` into each component's shell command, so what
    # stands here is a piece of shell.
    sys.executable = f"{shlex.quote(sys.executable)} -m pipelines.interpreter"
    tell(result=pipeline(**request["arguments"]).output)
    return 0


def _without_retries(spec: Any) -> None:
    """No second attempt: they are for nodes that go away, and here a user waits to read why."""
    for component in (spec.root, *spec.components.values()):
        for task in component.dag.tasks.values():
            task.ClearField("retry_policy")


def _name(image: str) -> str:
    """The image without tag and digest; a port in a registry's name is no tag."""
    return re.sub(r"(:[^/@]*)?(@.*)?$", "", image)


if __name__ == "__main__":
    sys.exit(main())
