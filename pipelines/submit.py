"""A run of a compiled pipeline on a KFP endpoint."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import Any

from pipelines.resources import compiled, version_of
from pipelines.upload import connect, upload
from serving.errors import StageError


def submit(
    url: str,
    name: str,
    parameters: Mapping[str, Any],
    *,
    experiment: str = "Default",
    run_name: str = "",
    namespace: str = "",
    service_account: str = "",
) -> str:
    """Uploads the pipeline unless its version is there, starts a run of it and returns its id.

    Raises StageError when the endpoint does not answer or refuses.
    """
    # Imported late: the client takes a second.
    from kfp_server_api import ApiException  # type: ignore[import-untyped]  # noqa: PLC0415
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    file = compiled()[name]
    told = contextlib.redirect_stdout(sys.stderr)  # the client prints links
    try:
        with told:
            client = connect(url)
            upload(client, name, file)
            pipeline = client.get_pipeline_id(name)
            found = client.create_experiment(experiment, namespace=namespace or None)
            run = client.run_pipeline(
                found.experiment_id,
                run_name or version_of(file),
                params=dict(parameters),
                pipeline_id=pipeline,
                version_id=_version(client, pipeline, version_of(file)),
                service_account=service_account or None,
            )
    except ApiException as error:
        raise StageError(f"{url}: KFP refused: {error.body or error.reason}") from None
    except (HTTPError, OSError) as error:
        raise StageError(f"{url}: KFP does not answer: {error}; is that its address?") from None
    return str(run.run_id)


def _version(client: Any, pipeline: str, name: str) -> str:
    token = ""
    while True:
        page = client.list_pipeline_versions(pipeline, page_token=token, page_size=100)
        for version in page.pipeline_versions or ():
            if version.display_name == name:
                return str(version.pipeline_version_id)
        token = page.next_page_token
        if not token:
            raise StageError(f"pipeline '{pipeline}' has no version '{name}' after its upload")
