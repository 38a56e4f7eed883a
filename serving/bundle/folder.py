"""Reading and writing bundles. Nobody reads one without checking its digests."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.bundle.contract import Contract, parse_contract
from serving.errors import BundleError
from serving.whole import sync_folder

FORMAT = "seatrial.bundle/1"
INDEX = "bundle.json"
REQUIRED = (
    "model.onnx",
    "contract.json",
    "golden.json",
    "lineage.json",
    "metrics.json",
    "card.md",
    "drift/reference.npz",
    "drift/config.json",
)


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on disk."""

    path: Path
    digest: str
    """Hex sha256 over the sorted (path, sha256) pairs of every file but bundle.json."""
    contract: Contract
    files: Mapping[str, str]

    def read(self, name: str) -> bytes:
        """A file's bytes, checked again against its digest. Raises BundleError."""
        if name not in self.files:
            raise BundleError(f"{self.path}: bundle {self.digest[:12]} has no file '{name}'")
        data = (self.path / name).read_bytes()
        _expect(self.path, name, hashlib.sha256(data).hexdigest(), self.files[name])
        return data

    def read_json(self, name: str) -> Any:
        return json.loads(self.read(name))


def bundle_digest(files: Mapping[str, str]) -> str:
    """sha256 of the compact JSON list of sorted [path, sha256] pairs."""
    pairs = json.dumps(sorted([name, sha] for name, sha in files.items()), separators=(",", ":"))
    return hashlib.sha256(pairs.encode()).hexdigest()


def write_bundle(
    parent: Path, files: Mapping[str, bytes], *, attestation: Mapping[str, Any]
) -> Bundle:
    """Writes `parent/<contract name>-<digest[:12]>` atomically and returns it, verified.

    The attestation (run ids, times) goes beside the folder as `<folder>.attestation.json`: it is
    no part of the digest. Equal files give an equal folder, so a folder that exists is kept.
    Raises BundleError when a required file is absent or the contract is not one.
    """
    absent = [name for name in REQUIRED if name not in files]
    if absent:
        raise BundleError(f"{parent}: cannot write a bundle without '{absent[0]}'")
    contract = parse_contract(files["contract.json"].decode(), "contract.json")
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    digest = bundle_digest(digests)
    target = parent / f"{contract.name}-{digest[:12]}"
    index = {"format": FORMAT, "name": contract.name, "digest": digest, "files": digests}
    parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".bundle-", dir=parent))
    try:
        for name, data in {**files, INDEX: _json(index)}.items():
            _write_synced(staging / name, data)
        staging.chmod(0o755)  # mkdtemp makes it private; other users' servers read it
        if target.exists():
            open_bundle(target)
        else:
            os.rename(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    beside = parent / f"{target.name}.attestation.json"
    partial = beside.with_suffix(".partial")
    _write_synced(partial, _json({"bundle": digest, **attestation}))
    os.replace(partial, beside)
    sync_folder(parent)
    return open_bundle(target)


def open_bundle(path: Path, *, contract: Contract | None = None) -> Bundle:
    """Opens and verifies a bundle folder.

    Raises BundleError naming the first file that is missing, altered or not listed, or when
    `contract` is given and the bundle was made for another one.
    """
    index_file = path / INDEX
    try:
        index = json.loads(index_file.read_bytes())
        files = {str(name): str(sha) for name, sha in index["files"].items()}
        digest, form = str(index["digest"]), index["format"]
    except FileNotFoundError:
        raise BundleError(
            f"{path}: no bundle here ({INDEX} is missing); give a bundle folder"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            f"{index_file}: not a bundle index ({error}); restore the bundle"
        ) from None
    if form != FORMAT:
        raise BundleError(f"{index_file}: format '{form}' is not '{FORMAT}'; retrain or convert it")
    for name, expected in sorted(files.items()):
        _expect(path, name, _file_sha256(path, name), expected)
    if bundle_digest(files) != digest:
        raise BundleError(
            f"{index_file}: digest {digest[:12]} is not that of its files; restore it"
        )
    for entry in sorted(path.rglob("*")):
        name = entry.relative_to(path).as_posix()
        if not entry.is_dir() and name != INDEX and name not in files:
            raise BundleError(f"{path}: file '{name}' is not in {INDEX}; remove it or rebuild")
    for name in REQUIRED:
        if name not in files:
            raise BundleError(f"{path}: the bundle lacks '{name}'; rebuild it")
    found = parse_contract((path / "contract.json").read_text("utf-8"), f"{path}/contract.json")
    if contract is not None and found != contract:
        raise BundleError(
            f"{path}: the bundle is for contract '{found.name}' as of its training and not for the"
            f" given '{contract.name}'; retrain it or give its own contract"
        )
    return Bundle(path=path, digest=digest, contract=found, files=files)


def _file_sha256(path: Path, name: str) -> str:
    file = path / name
    if not file.resolve().is_relative_to(path.resolve()):
        raise BundleError(f"{path}: '{name}' leads out of the bundle; rebuild it")
    try:
        with file.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{file}: cannot read the bundle's file: {error.strerror}") from None


def _expect(path: Path, name: str, actual: str, expected: str) -> None:
    if actual != expected:
        raise BundleError(
            f"{path / name}: sha256 is {actual[:12]}, the bundle says {expected[:12]};"
            " the file was altered, restore the bundle"
        )


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _write_synced(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
