from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from serving.drift.files import claim
from serving.drift.snapshot import KEPT_ASIDE, Snapshot, SnapshotFile, pack
from serving.errors import FileError

MINE = {"bundle": "a"}


def snapshot(bundle: str = "a") -> Snapshot:
    return Snapshot({"identity": {"bundle": bundle}, "row": 7}, {"watch/won": np.arange(3.0)})


def test_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path)
    assert file.save(snapshot())
    found = SnapshotFile(tmp_path).load(MINE)
    assert found is not None
    assert found.meta["row"] == 7
    assert found.under("watch")["won"].tolist() == [0, 1, 2]


def test_that_of_another_bundle_is_set_aside_and_kept(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path)
    file.save(snapshot("b"))
    assert file.load(MINE) is None
    assert file.set_aside == 1
    (aside,) = tmp_path.glob("*.aside.npz")
    assert aside.read_bytes() == pack(snapshot("b"))


def test_only_the_newest_few_are_kept_aside(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path)
    for _ in range(6):
        file.save(snapshot("b"))
        file.load(MINE)
    assert len(list(tmp_path.glob("*.aside.npz"))) == KEPT_ASIDE


def pickled() -> bytes:
    packed = io.BytesIO()
    np.savez(packed, meta=np.array([{}], dtype=object))
    return packed.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        pack(snapshot())[:-40],
        pickled(),
        pack(snapshot()).replace(b"seatrial.drift.snapshot/1", b"seatrial.drift.snapshot/9"),
    ],
    ids=["empty", "no zip", "cut off", "pickle", "other version"],
)
def test_a_file_that_is_none_is_set_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "snapshot.npz").write_bytes(content)
    file = SnapshotFile(tmp_path)
    assert file.load(MINE) is None
    assert file.set_aside == 1
    assert file.save(snapshot())


def test_a_folder_belongs_to_one_process_and_is_cleaned(tmp_path: Path) -> None:
    (tmp_path / ".snapshot.npz-x1").write_bytes(b"half")
    claim(tmp_path)
    assert not list(tmp_path.glob(".snap*"))
    with pytest.raises(FileError, match="used by another process"):
        claim(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError, match="give a folder that can be written"):
        claim(tmp_path / "file" / "below")
