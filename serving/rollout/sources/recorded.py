"""Intervals that someone else counted: one JSON line each, as Observation.to_json writes them."""

from __future__ import annotations

import json
from pathlib import Path

from serving.errors import FileError
from serving.rollout.gate.observation import Observation
from serving.rollout.sources.source import Arms, Counts, Look, Snapshot


class RecordedSource:
    """A MetricsSource: the first interval of the file that begins at the watermark or later.

    The file may grow while it is read, so any other monitoring can feed a gate. Where nothing new
    is there, nothing is known.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def look(self, arms: Arms, since: Snapshot | None, now: float) -> Look:
        """Raises FileError naming file and line."""
        found = self._read()
        if since is None:
            first = found[0].start if found else now
            return Look(Counts(first, first, None, None), Snapshot(first, {}), more=bool(found))
        left = [one for one in found if one.start >= since.time]
        if not left:
            return Look(Counts(since.time, max(since.time, now), None, None), since)
        one = left[0]
        counts = Counts(one.start, one.end, one.stable, one.canary, one.score_edges)
        return Look(counts, Snapshot(one.end, {}), more=len(left) > 1)

    def _read(self) -> list[Observation]:
        try:
            lines = self._file.read_text("utf-8").splitlines(keepends=True)
        except OSError as error:
            raise FileError(f"{self._file}: cannot be read: {error.strerror}") from None
        found: list[Observation] = []
        for number, line in enumerate(lines, start=1):
            if number == len(lines) and not line.endswith("\n"):
                break  # it is still being written
            try:
                one = Observation.from_json(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise FileError(
                    f"{self._file}: line {number} is no recorded interval ({error!r}); write what"
                    " Observation.to_json gives"
                ) from None
            if found and one.start < found[-1].end:
                raise FileError(
                    f"{self._file}: line {number} begins at {one.start}, before the line above it"
                    f" ends ({found[-1].end}); intervals must follow one another"
                )
            found.append(one)
        return found
