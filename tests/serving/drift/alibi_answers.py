"""Run in the drift environment: our answers beside Alibi Detect's own, as JSON on stdout.

Its first argument is a folder with torch, which the drift environment itself goes without.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import numpy as np

from serving.drift.alibi import build
from serving.drift.encoding import Column
from serving.drift.ks import SortedReference
from serving.drift.mmd import kernel_matrix, median_bandwidth, permuted_mmd2

COLUMNS = (
    Column("a", "number"),
    Column("b", "number"),
    Column("c", "category", categories=("x", "y", "z")),
)


def rows(count: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(count, 2)).round(1)
    return np.column_stack([numbers, rng.choice(3, size=count, p=[0.5, 0.3, 0.2]).astype(float)])


def kolmogorov() -> list[list[float]]:
    from alibi_detect.cd import KSDrift  # noqa: PLC0415

    answers = []
    for shift in (0.0, 0.1, 0.5, 3.0):
        reference, window = rows(2000, 1)[:, 0], rows(300, 2)[:, 0] + shift
        p_value, distance = KSDrift(reference.reshape(-1, 1)).score(window.reshape(-1, 1))
        mine = SortedReference(reference).test(window)
        answers.append([*map(float, (*mine, p_value[0], distance[0]))])
    return answers


def permutations() -> list[list[float]]:
    import torch  # noqa: PLC0415
    from alibi_detect.cd import MMDDrift  # noqa: PLC0415

    answers = []
    for shift in (0.0, 0.15, 0.25):
        reference, window = rows(300, 3), rows(100, 4)
        window[:, :2] += shift
        torch.manual_seed(7)
        detector = MMDDrift(reference, backend="pytorch", n_permutations=100, device="cpu")
        torch.manual_seed(7)
        p_value, mmd2, _ = detector.score(window)
        torch.manual_seed(7)
        count, m = len(reference) + len(window), len(window)
        chosen = np.zeros((count, 100))
        for column in chosen.T:
            column[torch.randperm(count).numpy()[-m:]] = 1.0
        kernel = kernel_matrix(np.concatenate([reference, window]), median_bandwidth(reference))
        own = np.zeros((count, 1))
        own[-m:] = 1.0
        statistic = permuted_mmd2(kernel, own)[0]
        mine = float((permuted_mmd2(kernel, chosen) >= statistic).mean())
        answers.append([mine, float(statistic), p_value, mmd2])
    return answers


def detectors() -> dict[str, dict[str, Any]]:
    clean, window = rows(500, 6), {}
    for name in ("a", "c", "gaps", "far"):
        window[name] = rows(500, 7)
    window["a"][:, 0] += 0.5
    window["c"][:100, 2] = 2.0
    window["gaps"][:60, 1] = np.nan
    window["far"][:40, 2] = -1.0
    answers: dict[str, dict[str, Any]] = {}
    for name in ("tabular", "ks", "chi2", "mmd"):
        detector = build(name, COLUMNS, rows(3000, 5), 500)
        answers[name] = {
            what: [
                [r.column, r.aspect, r.method, r.p_value, r.effect] for r in detector.test(given)
            ]
            for what, given in (("clean", clean), *window.items())
        }
    return answers


def large_windows() -> list[float]:
    """For references of 400 rows, the share of clean windows of 2,000 below 1 % on one column."""
    found = []
    for seed in range(12):
        small = build("ks", COLUMNS[:1], rows(400, 100 + seed)[:, :1], 200)
        p_values = [small.test(rows(2000, 1000 + 20 * seed + w)[:, :1])[0] for w in range(20)]
        found.append(float(np.mean([r.p_value < 0.05 for r in p_values])))
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.path.append(sys.argv[1])
    told = {
        "ks": kolmogorov(),
        "mmd": permutations(),
        "detectors": detectors(),
        "large": large_windows(),
    }
    sys.stdout.write(json.dumps(told))
