"""Where training was when it was interrupted: a file a run, replaced after every epoch."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import torch
from pyarrow import ArrowException, fs

from components.files import write_bytes
from serving.errors import FileError

State = dict[str, Any]


class Checkpoint:
    """One file `<key>.pt` in a folder or below an S3 or GCS URI.

    The key is a digest of everything that decides the result, so that a run finds its own
    checkpoint and never another's.
    """

    def __init__(self, store: str, decides: object) -> None:
        """Raises FileError for a URI that no file system here serves."""
        self._store = store
        text = json.dumps(decides, sort_keys=True, default=str)
        self._name = hashlib.sha256(text.encode()).hexdigest()[:32] + ".pt"
        self._remote: fs.FileSystem | None = None
        if "://" in store:
            try:
                self._remote, self._folder = fs.FileSystem.from_uri(store)
            except (ArrowException, OSError, ValueError) as error:
                raise FileError(f"{store}: checkpoints cannot be kept there: {error}") from None

    def load(self) -> State | None:
        """What `save` last wrote; None for the first start. Runs no pickled code."""
        data = self._read()
        if data is None:
            return None
        try:
            state: State = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as error:  # torch's errors for a damaged file share no base
            raise FileError(
                f"{self._store}/{self._name}: not a checkpoint ({type(error).__name__}); remove it"
            ) from None
        return state

    def save(self, state: State) -> None:
        """Replaces the file whole: a local one by renaming, an object by one upload."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        if self._remote is None:
            write_bytes(Path(self._store) / self._name, buffer.getvalue())
            return
        with self._remote.open_output_stream(f"{self._folder}/{self._name}") as stream:
            stream.write(buffer.getvalue())

    def remove(self) -> None:
        """Once the result is written nobody needs it."""
        if self._remote is None:
            (Path(self._store) / self._name).unlink(missing_ok=True)
        elif self._read() is not None:
            self._remote.delete_file(f"{self._folder}/{self._name}")

    def _read(self) -> bytes | None:
        try:
            if self._remote is None:
                return (Path(self._store) / self._name).read_bytes()
            with self._remote.open_input_file(f"{self._folder}/{self._name}") as stream:
                data: bytes = stream.read()
                return data
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FileError(f"{self._store}: cannot read checkpoints there: {error}") from None
