"""What the engine knows after a restart."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.drift.snapshot import Snapshot, pack, read_snapshot
from tests.serving.drift.engine_parts import (
    ONLY_WATCH,
    OTHER,
    Parts,
    event,
)
from tests.serving.drift.stream import CONFIG, WINDOW, wait_until


def restarted(before: Parts, **settings: Any) -> Parts:
    before.engine.close()
    return Parts(**settings)


def test_goes_on_where_it_was(tmp_path: Path) -> None:
    settings = {"state_dir": str(tmp_path), "snapshot_seconds": 1000.0}
    first = Parts(**settings)
    first.introduce(config=CONFIG)
    first.accept(event(5 * WINDOW + 70, "a"))
    first.wait("tested", 5)
    wait_until(lambda: first.engine.status()["window"]["pending"] == 70, "rows")
    before = first.engine.status()
    second = restarted(first, **settings)
    second.introduce(config=CONFIG)
    after = second.engine.status()
    for same in ("window", "episode", "open", "features", "timeline", "quality"):
        expected, found = ({**s[same]} if same == "window" else s[same] for s in (before, after))
        if same == "window":
            for ages in (expected, found):
                ages.pop("age_seconds")
        if same == "features":
            for feature in (*expected, *found):
                feature.update(p_value=None, effect=None)
        assert found == expected, same
    assert after["watch"]["evidence"] == before["watch"]["evidence"]
    assert after["state"]["restored"] is True
    second.accept(event(5 * WINDOW + 70, "a"))
    assert second.engine.status()["input"]["duplicates"] == 1
    second.engine.close()


def test_an_event_that_the_outbox_missed_is_sent_after_the_restart_and_only_then(
    tmp_path: Path,
) -> None:
    settings = {"state_dir": str(tmp_path)}
    first = Parts(**settings)
    # Between the snapshot and the outbox, the process ends.
    first.engine._deliver = lambda event: None  # type: ignore[method-assign]
    first.introduce()
    first.feed(2)
    first.wait("tested", 2)
    wait_until((tmp_path / "snapshot.npz").exists, "the snapshot")
    first.engine._save = lambda *_: None  # type: ignore[method-assign]
    second = restarted(first, **settings)
    second.introduce()
    assert second.told() == ["drift.opened"]
    third = restarted(second, **settings)
    third.introduce()
    assert third.told() == []
    third.engine.close()


def test_a_full_disk_stops_no_detection_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    parts = Parts(state_dir=str(tmp_path), snapshot_seconds=0.05)
    monkeypatch.setattr(os, "fsync", full)
    parts.introduce()
    parts.feed(2)
    wait_until(lambda: "drift.opened" in parts.told(), "the event")
    wait_until(lambda: parts.engine.status()["state"]["problem"] is not None, "the problem")
    assert any("No space left" in p for p in parts.engine.status()["problems"])
    monkeypatch.undo()
    wait_until(lambda: parts.engine.status()["state"]["problem"] is None, "space again")
    parts.engine.close()


def test_the_state_of_another_bundle_is_set_aside(tmp_path: Path) -> None:
    first = Parts(state_dir=str(tmp_path))
    first.introduce(config=ONLY_WATCH)
    first.accept(event(100, "a"))
    second = restarted(first, state_dir=str(tmp_path))
    second.introduce(OTHER, config=ONLY_WATCH)
    status = second.engine.status()
    assert (status["state"]["set_aside"], status["state"]["restored"]) == (1, False)
    assert status["watch"]["rows"] == 0
    second.engine.close()


def test_a_state_that_is_damaged_inside_is_set_aside(tmp_path: Path) -> None:
    first = Parts(state_dir=str(tmp_path))
    first.introduce(config=ONLY_WATCH)
    first.accept(event(100, "a"))
    first.engine.close()
    kept = read_snapshot(tmp_path / "snapshot.npz")
    arrays = {**kept.arrays, "watch/won": np.full(3, np.nan)}
    (tmp_path / "snapshot.npz").write_bytes(pack(Snapshot(kept.meta, arrays)))
    second = Parts(state_dir=str(tmp_path))
    second.introduce(config=ONLY_WATCH)
    assert second.engine.status()["state"]["set_aside"] == 1
    second.accept(event(100, "a"))
    wait_until(lambda: second.engine.status()["watch"]["rows"] == 100, "rows")
    second.engine.close()
