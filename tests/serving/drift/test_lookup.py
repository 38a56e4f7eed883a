from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.drift.lookup import BUCKETS, CROWDED, FEW, Lookup

RNG = np.random.default_rng(0)
EDGES = {
    "quantiles": np.sort(RNG.normal(size=65)),
    "a heavy tail": np.sort(np.exp(4 * RNG.normal(size=65))),
    "categories": np.arange(7.0),
    "a value of its own": np.array([0.0, 1.0, np.nextafter(1.0, 2.0), 2.0]),
    "two": np.array([3.0, np.nextafter(3.0, 4.0)]),
    "one": np.array([np.inf]),
    "an endless one": np.array([-np.inf, 0.0, 1.0]),
    "the widest": np.array([-1.7e308, 0.0, 1.7e308]),
    "the narrowest": np.array([0.0, 5e-324]),
    "crowded": np.append(np.linspace(0, 1, CROWDED + 2), 10.0 * BUCKETS),
}


@pytest.mark.parametrize("edges", EDGES.values(), ids=EDGES)
@pytest.mark.parametrize("count", [1, FEW, 5 * FEW])
def test_finds_what_a_binary_search_finds(edges: NDArray[np.float64], count: int) -> None:
    ending = np.append(edges, np.nan)
    finite = edges[np.isfinite(edges)]
    near = [finite, np.nextafter(finite, np.inf), np.nextafter(finite, -np.inf)]
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e308, -1e308, 5e-324])
    part = RNG.random(count)
    inside = part * finite.max(initial=-3.0) + (1 - part) * finite.min(initial=3.0)
    values = RNG.permutation(np.concatenate([*near, odd, inside]))
    values = np.concatenate([values, odd, *near]) if count >= FEW else values[:count]
    expected = np.searchsorted(ending, values, side="right")
    np.testing.assert_array_equal(Lookup(ending).find(values), expected)
