"""The sidecar's state on disk: one .npz of plain arrays, replaced whole, read without pickles."""

from __future__ import annotations

import io
import logging
import os
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from serving.errors import DataError, FileError
from serving.whole import write_bytes

logger = logging.getLogger("seatrial.drift")

FORMAT = "seatrial.drift.snapshot/1"
META = "meta"
KEPT_ASIDE = 3

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Snapshot:
    """`meta` is JSON; names of `arrays` are paths: watch/…, sketch/current/…, labels/…."""

    meta: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]

    def under(self, prefix: str) -> Arrays:
        """The arrays below a path, by the rest of their names."""
        start = prefix + "/"
        return {k[len(start) :]: v for k, v in self.arrays.items() if k.startswith(start)}


def pack(snapshot: Snapshot) -> bytes:
    """A snapshot file's bytes."""
    meta = orjson.dumps({"format": FORMAT, **snapshot.meta})
    packed = io.BytesIO()
    arrays: dict[str, Any] = {**snapshot.arrays, META: np.frombuffer(meta, dtype=np.uint8)}
    np.savez(packed, **arrays)
    return packed.getvalue()


def read_snapshot(path: Path) -> Snapshot:
    """Raises FileError for a file that is none, DataError for one of another version."""
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = orjson.loads(arrays.pop(META).tobytes())
        form = meta["format"]
    except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise FileError(f"{path}: not a snapshot of the drift sidecar: {error}") from None
    if form != FORMAT:
        raise DataError(f"{path}: format '{form}' is not '{FORMAT}'; begin without it")
    return Snapshot(meta, arrays)


class SnapshotFile:
    """The one snapshot in a state folder; without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / "snapshot.npz" if folder else None
        self.problem = ""
        self.saved_at: float | None = None
        """On the monotonic clock."""
        self.set_aside = 0

    def save(self, snapshot: Snapshot) -> bool:
        """Whether it is on disk; a disk that is full stops nothing."""
        if self._path is None:
            return False
        try:
            write_bytes(self._path, pack(snapshot))
        except OSError as error:
            if not self.problem:
                logger.error(
                    "%s: cannot be written: %s; detection goes on, a restart would lose what"
                    " was seen since the last snapshot",
                    self._path,
                    error.strerror,
                )
            self.problem = f"snapshot: {error.strerror}; a restart would lose what was seen"
            return False
        if self.problem:
            logger.info("%s: written again", self._path)
        self.problem = ""
        self.saved_at = time.monotonic()
        return True

    def load(self, identity: Mapping[str, Any]) -> Snapshot | None:
        """The snapshot of this very bundle, reference and arm; another one is set aside."""
        if self._path is None or not self._path.exists():
            return None
        try:
            found = read_snapshot(self._path)
        except (FileError, DataError) as error:
            self.put_aside(str(error))
            return None
        if found.meta.get("identity") != dict(identity):
            self.put_aside(f"it is of {found.meta.get('identity')} and not of {dict(identity)}")
            return None
        return found

    def put_aside(self, why: str) -> None:
        """Renames the snapshot, so that nothing takes it up and nobody loses it."""
        if self._path is None or not self._path.exists():
            return
        aside = self._path.with_name(f"snapshot-{time.time_ns()}.aside.npz")
        try:
            os.replace(self._path, aside)
            for old in sorted(aside.parent.glob("snapshot-*.aside.npz"))[:-KEPT_ASIDE]:
                old.unlink()
        except OSError as error:
            logger.error("%s: cannot be set aside: %s", self._path, error.strerror)
            return
        self.set_aside += 1
        logger.warning("the snapshot is set aside as %s: %s", aside.name, why)
