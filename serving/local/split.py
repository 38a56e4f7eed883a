"""Who gets which share of the traffic. Pure, so that every case can be told in a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serving.local.pods import Arm


def shares(arms: Sequence[Arm], ready: Mapping[str, bool]) -> dict[str, int] | None:
    """Percent by arm, as KServe routes; None leaves the present route as it is.

    `ready` holds the arms that have been ready once, and whether they are now. A canary that is
    not ready is left out and stable gets its share. Until stable has been ready once nothing
    moves; after that it keeps its share even while it restarts, so that a rollback to it is
    never held up.
    """
    stable, *canaries = arms
    if stable.name not in ready:
        return None
    given = {c.name: c.weight if ready.get(c.name, False) else 0 for c in canaries}
    return {stable.name: 100 - sum(given.values()), **given}
