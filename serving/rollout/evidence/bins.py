"""Stable's deciles, made of the fixed buckets that every predictor counts its scores in."""

from __future__ import annotations

from collections.abc import Sequence

from serving.errors import DataError, UsageError


def deciles(
    edges: Sequence[float], stable_counts: Sequence[int], parts: int = 10
) -> tuple[float, ...]:
    """Those of the buckets' inner `edges` that cut stable's scores into about equal parts.

    A bucket that holds more than its part stays whole, so there may be fewer than `parts` bins.
    The cuts must stay as they are while evidence gathers, and come from counts made before the
    first interval that is tested: bins chosen by looking at the data tested would be biased.
    Raises DataError where counts and edges do not fit or nothing was counted.
    """
    if parts < 2:
        raise UsageError(f"{parts} parts cannot be compared; give 2 or more")
    _check(edges, stable_counts)
    total = sum(stable_counts)
    if total == 0:
        raise DataError("stable has answered nothing yet, so it has no deciles; wait for traffic")
    cuts: list[float] = []
    below = filled = 0
    for edge, count in zip(edges, stable_counts, strict=False):
        below += count
        # A cut once the next part is full; none where nothing would be left above it.
        if below * parts >= total * (filled + 1) and below < total:
            cuts.append(edge)
            filled = below * parts // total
    return tuple(cuts)


def rebinned(
    edges: Sequence[float], counts: Sequence[int], cuts: Sequence[float]
) -> tuple[int, ...]:
    """Counts per bin between the `cuts`, which are some of the buckets' `edges`.

    Raises DataError where they are not.
    """
    _check(edges, counts)
    unknown = set(cuts) - set(edges)
    if unknown:
        raise DataError(
            f"cut {min(unknown)} is no edge of the score buckets; stable and canary must count "
            "in the buckets that the run began with"
        )
    ends, found, held = set(cuts), [], 0
    for edge, count in zip(edges, counts, strict=False):
        held += count
        if edge in ends:
            found.append(held)
            held = 0
    return (*found, held + counts[-1])


def _check(edges: Sequence[float], counts: Sequence[int]) -> None:
    if len(counts) != len(edges) + 1 or list(edges) != sorted(set(edges)):
        raise DataError(
            f"{len(counts)} score counts do not belong to {len(edges)} edges; "
            "give rising inner edges and one count more than edges"
        )
