"""One run's simulated counts as the observation that the gate itself reads."""

from __future__ import annotations

import numpy as np

from benchmarks.rollout.traffic import BUCKETS, EDGES, LOOK_SECONDS, Counts, Ints, Traffic
from serving.rollout.gate.observation import ArmCounts, Observation


def observed(counts: Counts, traffic: Traffic, run: int, look: int, row: int = 0) -> Observation:
    """`row` is the run's place in `counts`. Look 0 shows stable's reference scores."""
    bins_s = traffic.reference[run] if look == 0 else _spread(counts.bins_s[row], traffic, run)
    stable = ArmCounts(
        requests=int(counts.n_s[row]),
        errors=int(counts.errors_s[row]),
        slow=int(counts.slow_s[row]),
        scores=tuple(int(n) for n in bins_s),
        decisions=(),
    )
    canary = ArmCounts(
        requests=int(counts.n_c[row]),
        errors=int(counts.errors_c[row]),
        slow=int(counts.slow_c[row]),
        scores=tuple(int(n) for n in _spread(counts.bins_c[row], traffic, run)),
        decisions=(),
    )
    return Observation(
        start=float(look * LOOK_SECONDS),
        end=float((look + 1) * LOOK_SECONDS),
        stable=stable,
        canary=canary,
        score_edges=EDGES,
        canary_ready=True,
        canary_restarts=0,
        weight=None,
    )


def _spread(bins: Ints, traffic: Traffic, run: int) -> Ints:
    """Each bin's count in the first bucket of the bin: rebinned, it is what it was."""
    found = np.zeros(BUCKETS, np.int64)
    firsts = [0, *(EDGES.index(cut) + 1 for cut in traffic.cuts[run])]
    found[firsts] = bins[: len(firsts)]
    return found
