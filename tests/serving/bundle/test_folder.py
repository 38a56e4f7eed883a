"""Bundles on disk: digests, atomic writing, and refusing what was altered."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from serving.bundle import Contract, open_bundle, write_bundle
from serving.errors import BundleError
from tests.support.tiny import CONTRACT, tiny_bundle


def test_the_digest_is_the_sha256_over_the_sorted_pairs_of_path_and_sha256(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path)
    pairs = sorted(
        [f.relative_to(bundle.path).as_posix(), hashlib.sha256(f.read_bytes()).hexdigest()]
        for f in bundle.path.rglob("*")
        if f.is_file() and f.name != "bundle.json"
    )
    text = json.dumps(pairs, separators=(",", ":"))
    assert bundle.digest == hashlib.sha256(text.encode()).hexdigest()
    assert bundle.path.name == f"tiny-{bundle.digest[:12]}"


def test_equal_files_give_an_equal_digest_whatever_the_attestation_says(tmp_path: Path) -> None:
    first = tiny_bundle(tmp_path / "a")
    second = tiny_bundle(tmp_path / "b")
    assert first.digest == second.digest
    attestation = json.loads((tmp_path / "a" / f"{first.path.name}.attestation.json").read_text())
    assert attestation == {"bundle": first.digest, "run": "test"}


@pytest.mark.parametrize("name", ["model.onnx", "contract.json", "drift/config.json"])
def test_refuses_a_bundle_with_an_altered_file(tmp_path: Path, name: str) -> None:
    bundle = tiny_bundle(tmp_path)
    file = bundle.path / name
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(BundleError, match=f"{name}: sha256 is .* the file was altered"):
        open_bundle(bundle.path)


def test_refuses_an_altered_index_and_files_that_are_missing_or_not_listed(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path)
    stray = bundle.path / "extra.txt"
    stray.write_text("x")
    with pytest.raises(BundleError, match=r"'extra.txt' is not in bundle.json"):
        open_bundle(bundle.path)
    stray.unlink()
    index_file = bundle.path / "bundle.json"
    index = json.loads(index_file.read_text())
    index_file.write_text(json.dumps({**index, "digest": "0" * 64}))
    with pytest.raises(BundleError, match="digest 000000000000 is not that of its files"):
        open_bundle(bundle.path)
    index_file.write_text(json.dumps(index))
    (bundle.path / "card.md").unlink()
    with pytest.raises(BundleError, match=r"card.md: cannot read the bundle's file"):
        open_bundle(bundle.path)


def test_refuses_an_index_that_leads_out_of_the_bundle(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path)
    (tmp_path / "secret").write_text("x")
    index_file = bundle.path / "bundle.json"
    index = json.loads(index_file.read_text())
    index["files"]["../secret"] = hashlib.sha256(b"x").hexdigest()
    index_file.write_text(json.dumps(index))
    with pytest.raises(BundleError, match="leads out of the bundle"):
        open_bundle(bundle.path)


def test_a_file_altered_after_opening_is_refused_when_read(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path)
    (bundle.path / "card.md").write_text("changed")
    with pytest.raises(BundleError, match=r"card.md: sha256 is"):
        bundle.read("card.md")


def test_refuses_a_bundle_of_another_contract(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path)
    other = Contract.model_validate({**CONTRACT, "name": "other"})
    with pytest.raises(BundleError, match="for contract 'tiny'.* not for the given 'other'"):
        open_bundle(bundle.path, contract=other)


def test_a_refused_write_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"without 'model.onnx'"):
        write_bundle(tmp_path, {"contract.json": b"{}"}, attestation={})
    assert list(tmp_path.iterdir()) == []


def test_writing_the_same_bundle_again_keeps_the_folder_and_leaves_no_partial_one(
    tmp_path: Path,
) -> None:
    first = tiny_bundle(tmp_path)
    before = (first.path / "model.onnx").stat().st_ino
    tiny_bundle(tmp_path)
    assert (first.path / "model.onnx").stat().st_ino == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        first.path.name,
        f"{first.path.name}.attestation.json",
    ]
