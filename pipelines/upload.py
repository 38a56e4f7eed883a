"""python -m pipelines.upload: gives a KFP that keeps pipelines in its database the compiled ones.

A version that is there is left alone, so it can run at every deployment.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.resources import compiled, version_of

TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")


def upload(client: Any, name: str, file: Path) -> str:
    """What was done about one pipeline, in a sentence. `client` is a kfp.Client."""
    version = version_of(file)
    found = client.get_pipeline_id(name)
    if found is None:
        found = client.upload_pipeline(str(file), pipeline_name=name).pipeline_id
        client.upload_pipeline_version(str(file), version, pipeline_id=found)
        return f"{name}: created, with version {version}"
    if version in _versions(client, found):
        return f"{name}: version {version} is there"
    client.upload_pipeline_version(str(file), version, pipeline_id=found)
    return f"{name}: version {version} uploaded"


def _versions(client: Any, pipeline: str) -> set[str]:
    names: set[str] = set()
    token = ""
    while True:
        page = client.list_pipeline_versions(pipeline, page_token=token, page_size=100)
        names |= {version.display_name for version in page.pipeline_versions or ()}
        token = page.next_page_token
        if not token:
            return names


def connect(url: str) -> Any:
    """A client that shows the pod's projected token, where one is mounted."""
    import kfp  # noqa: PLC0415 - a second, and --help needs it not

    return kfp.Client(host=url, existing_token=TOKEN.read_text() if TOKEN.is_file() else None)


def main(arguments: list[str] | None = None, client: Callable[[str], Any] = connect) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.upload", description=__doc__)
    parser.add_argument(
        "--url",
        default=os.environ.get("SEATRIAL_KFP_URL", ""),
        help="of KFP's API server (env SEATRIAL_KFP_URL)",
    )
    asked = parser.parse_args(arguments)
    if not asked.url:
        sys.stderr.write("error: no KFP to upload to; give --url http://HOST:PORT\n")
        return 2
    connected = client(asked.url)
    for name, file in compiled().items():
        sys.stdout.write(upload(connected, name, file) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
