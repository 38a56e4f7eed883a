"""The bundle of a predictor of another make, which cannot introduce itself: from the settings."""

from __future__ import annotations

import io
import re
import tarfile
import tempfile
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

from serving.bundle import Bundle, open_bundle
from serving.drift.config import parse_config
from serving.drift.encoding import SCORE
from serving.drift.introduction import Introduction, introduce
from serving.drift.settings import Settings
from serving.errors import BundleError, UsageError

LARGEST = 1 << 30
TIMEOUT = 30.0
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def introduce_foreign(settings: Settings) -> Introduction:
    """Opens the bundle that the settings name, its digests checked.

    Raises UsageError for a name that cannot be, BundleError for a bundle that cannot be used,
    DataError for a drift reference that does not fit.
    """
    parts = urlsplit(settings.bundle)
    if parts.scheme in ("http", "https"):
        with tempfile.TemporaryDirectory(prefix="seatrial-bundle-") as folder:
            return _introduce(_download(settings.bundle, Path(folder)), settings)
    if parts.scheme == "file":
        return _introduce(open_bundle(Path(unquote(parts.path))), settings)
    if parts.scheme and "://" in settings.bundle:
        raise UsageError(
            f"bundle '{settings.bundle}' is neither a folder nor a file:, http: or https: URI;"
            " mount the volume and give its folder"
        )
    return _introduce(open_bundle(Path(settings.bundle)), settings)


def logged_outputs(settings: Settings) -> tuple[str, ...]:
    """What rows of KServe's logger come with: decisions are our tee's alone."""
    return (SCORE,) if settings.logger_mode == "all" else ()


def _introduce(bundle: Bundle, settings: Settings) -> Introduction:
    names = {"model": settings.model or bundle.contract.name, "arm": settings.arm or "default"}
    for setting, name in names.items():
        if not _TOKEN.fullmatch(name):
            raise UsageError(
                f"{setting} '{name}' is no name; give letters, digits, '.', '_' and '-'"
            )
    config = parse_config(bundle.read("drift/config.json"), f"{bundle.path}/drift/config.json")
    return introduce(
        digest=bundle.digest,
        arm=names["arm"],
        model=names["model"],
        contract=bundle.contract,
        config=config,
        packed=bundle.read("drift/reference.npz"),
        outputs=logged_outputs(settings),
        metrics=bundle.read_json("metrics.json"),
    )


def _download(url: str, folder: Path) -> Bundle:
    """The bundle in a .tar or .tar.gz."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310 - http(s) only
            data = answer.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise BundleError(f"{url}: cannot be fetched: {error}") from None
    if len(data) > LARGEST:
        raise BundleError(f"{url}: the archive is larger than {LARGEST} bytes")
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            archive.extractall(folder, filter="data")
    except (tarfile.TarError, OSError) as error:
        raise BundleError(f"{url}: not a .tar or .tar.gz of a bundle: {error}") from None
    found = sorted(folder.rglob("bundle.json"), key=lambda path: len(path.parts))
    if not found:
        raise BundleError(f"{url}: there is no bundle.json in it; pack the bundle's folder")
    return open_bundle(found[0].parent)
