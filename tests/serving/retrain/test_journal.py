from __future__ import annotations

from pathlib import Path

import pytest

from serving.errors import SeatrialError, UsageError
from serving.retrain import journal as module
from serving.retrain.journal import Journal, State
from tests.serving.retrain.receivers import event


def test_an_event_is_kept_once_and_found_again_by_the_next_process(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    record = first.add(event(), 5.0)
    assert record is not None
    assert first.add(event(), 6.0) is None
    first.change(record, state=State.RUNNING, run="r-1", started=7.0)
    first.close()
    (found,) = Journal(tmp_path).records()
    assert (found.event, found.received, found.state) == (event(), 5.0, State.RUNNING)
    assert (found.run, found.started) == ("r-1", 7.0)


def test_two_receivers_cannot_share_a_journal(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    with pytest.raises(SeatrialError, match="another receiver uses it"):
        Journal(tmp_path)
    first.close()
    Journal(tmp_path).close()


def test_a_file_that_is_no_record_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"event": {"id"')
    assert Journal(tmp_path).records() == []
    assert (tmp_path / "broken.unreadable").exists()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file/journal: Not a directory"):
        Journal(tmp_path / "file" / "journal")


def test_what_cannot_be_written_has_not_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_text", _disk_full)
        with pytest.raises(OSError, match="No space"):
            journal.add(event(), 1.0)
        assert journal.records() == []
    record = journal.add(event(), 2.0)
    assert record is not None
    monkeypatch.setattr(module, "write_text", _disk_full)
    with pytest.raises(OSError, match="No space"):
        journal.change(record, state=State.STARTING)
    assert journal.records()[0].state is State.RECEIVED


def test_records_that_need_nothing_more_are_forgotten_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 2)
    journal = Journal(tmp_path)
    for number in range(6):
        record = journal.add(event(number), float(number))
        assert record is not None
        if number:
            journal.change(record, state=State.SKIPPED)
    assert [r.event.id for r in journal.records()] == ["event-0", "event-3", "event-4", "event-5"]
    assert len(list(tmp_path.glob("*.json"))) == 4


def _disk_full(path: Path, text: str) -> None:
    raise OSError(28, "No space left on device")
