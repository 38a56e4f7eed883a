"""The registry in MLflow: an embedded SQLite file, or a server by its URI."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.register.registry import Entry, Version
from serving.errors import StageError, UsageError

SQLITE = "sqlite:///"
DIGEST = "seatrial.digest"
LINEAGE = ("run", "data", "code", "parent")
QUALITY = "seatrial.quality"


class MlflowRegistry:
    """A ModelRegistry. Lineage is in the versions' tags, `seatrial.*`.

    Raises StageError when MLflow refuses or does not answer.
    """

    def __init__(self, uri: str) -> None:
        """`uri`: sqlite:///FILE (four slashes for an absolute path) or http(s)://…"""
        if not uri.startswith((SQLITE, "http://", "https://")):
            raise UsageError(f"registry '{uri}' is neither {SQLITE}FILE nor the URL of a server")
        self._uri = uri
        self._file = Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None
        # MLflow reports its use to its makers and tells of every migration, unless asked not to.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        for name in ("mlflow.store.db.utils", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        with self._locked(), self._explained("open"):
            # Imported late: it takes seconds.
            from mlflow import MlflowClient  # noqa: PLC0415

            self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            if self._file is not None:
                self._client.search_registered_models(max_results=1)  # makes the tables

    def register(self, entry: Entry) -> Version:
        with self._locked(), self._explained("register in"):
            found = self._same(entry)
            if found is not None:
                return found
            self._make_model(entry.model)
            tags = {f"seatrial.{name}": getattr(entry, name) for name in LINEAGE}
            tags |= {DIGEST: entry.digest, QUALITY: json.dumps(dict(entry.quality))}
            made = self._client.create_model_version(entry.model, entry.uri, tags=tags)
            # A server knows no lock: of two who registered one digest at once the first stays.
            kept = self._same(entry)
            if kept is not None and kept.number != int(made.version):
                self._client.delete_model_version(entry.model, made.version)
                return kept
            return _version(made, ())

    def models(self) -> list[str]:
        with self._explained("read"):
            return sorted(one.name for one in _pages(self._client.search_registered_models))

    def versions(self, model: str) -> list[Version]:
        with self._explained("read"):
            found = _pages(self._client.search_model_versions, f"name = '{_quoted(model)}'")
            aliases: dict[int, list[str]] = {}
            if found:
                named = self._client.get_registered_model(model).aliases
                for alias, number in named.items():
                    aliases.setdefault(int(number), []).append(alias)
        ours = [_version(one, tuple(sorted(aliases.get(int(one.version), ())))) for one in found]
        return sorted((one for one in ours if one.entry.digest), key=lambda v: -v.number)

    def set_alias(self, model: str, alias: str, number: int) -> None:
        if number not in [version.number for version in self.versions(model)]:
            raise UsageError(f"model '{model}' has no version {number}")
        with self._locked(), self._explained("write"):
            self._client.set_registered_model_alias(model, alias, str(number))

    def _same(self, entry: Entry) -> Version | None:
        """The first version with the entry's digest."""
        query = f"name = '{_quoted(entry.model)}' and tags.`{DIGEST}` = '{entry.digest}'"
        numbers = [int(one.version) for one in _pages(self._client.search_model_versions, query)]
        if not numbers:
            return None
        return next(v for v in self.versions(entry.model) if v.number == min(numbers))

    def _make_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer of the SQLite file at a time, its first migration included."""
        if self._file is None:
            yield
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(f"{self._file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            said = " ".join(str(error).split())[:300]
            raise StageError(f"registry {self._uri}: cannot {what} it: {said}") from None


def _pages(search: Any, query: str | None = None) -> list[Any]:
    found: list[Any] = []
    token: str | None = None
    while True:
        page = search(filter_string=query, max_results=200, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _quoted(text: str) -> str:
    if "'" in text:
        raise UsageError(f"model {text!r} is no model's name; it holds a quote")
    return text


def _version(found: Any, aliases: tuple[str, ...]) -> Version:
    tags = found.tags
    entry = Entry(
        model=found.name,
        digest=tags.get(DIGEST, ""),
        uri=found.source,
        quality=json.loads(tags.get(QUALITY, "{}")),
        **{name: tags.get(f"seatrial.{name}", "") for name in LINEAGE},
    )
    return Version(int(found.version), entry, found.creation_timestamp / 1000, aliases)
