"""What a model registry must do here, and one in memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from serving.errors import UsageError

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class Entry:
    """A bundle and where it comes from."""

    model: str
    """The contract's name."""
    digest: str
    uri: str
    """The storageUri that serves it."""
    run: str = ""
    data: str = ""
    """sha256 of the rows it was trained on."""
    code: str = ""
    parent: str = ""
    """Digest of the bundle that it succeeds; empty for the first."""
    quality: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Version:
    number: int
    entry: Entry
    made: float
    """Seconds since 1970."""
    aliases: tuple[str, ...] = ()


class ModelRegistry(Protocol):
    """Versions of models, counted from 1, and aliases that each point to one of them."""

    def register(self, entry: Entry) -> Version:
        """A digest has one version: registering it again gives the one there is. Safe for
        concurrent callers."""
        ...

    def models(self) -> list[str]: ...

    def versions(self, model: str) -> list[Version]:
        """Newest first; empty for a model that is not registered."""
        ...

    def set_alias(self, model: str, alias: str, number: int) -> None:
        """Moves the alias. Raises UsageError when there is no such version."""
        ...


def version_of(registry: ModelRegistry, model: str, which: str) -> Version:
    """The version with that number, alias, or digest (its first 6 digits or more).

    Raises UsageError naming what there is.
    """
    found = registry.versions(model)
    for version in found:
        if which in (str(version.number), *version.aliases):
            return version
    matching = [v for v in found if len(which) >= 6 and v.entry.digest.startswith(which)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise UsageError(f"'{which}' begins {len(matching)} digests of '{model}'; give more of it")
    there = ", ".join(f"{v.number} ({v.entry.digest[:12]})" for v in found[:10]) or "none"
    raise UsageError(f"model '{model}' has no version '{which}'; there are: {there}")


def with_alias(registry: ModelRegistry, model: str, alias: str) -> Version | None:
    """The version that the alias points to; None where there is none."""
    return next((v for v in registry.versions(model) if alias in v.aliases), None)


class MemoryRegistry:
    """A ModelRegistry that forgets: for tests and trials."""

    def __init__(self) -> None:
        self._versions: dict[str, list[Version]] = {}
        self._lock = threading.Lock()

    def register(self, entry: Entry) -> Version:
        with self._lock:
            found = self._versions.setdefault(entry.model, [])
            for version in found:
                if version.entry.digest == entry.digest:
                    return version
            found.append(Version(len(found) + 1, entry, float(len(found))))
            return found[-1]

    def models(self) -> list[str]:
        return sorted(self._versions)

    def versions(self, model: str) -> list[Version]:
        return list(reversed(self._versions.get(model, [])))

    def set_alias(self, model: str, alias: str, number: int) -> None:
        with self._lock:
            found = self._versions.get(model, [])
            if number not in [version.number for version in found]:
                raise UsageError(f"model '{model}' has no version {number}")
            self._versions[model] = [
                replace(
                    version,
                    aliases=tuple(sorted({*version.aliases} - {alias}))
                    if version.number != number
                    else tuple(sorted({*version.aliases, alias})),
                )
                for version in found
            ]
