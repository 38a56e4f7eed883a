"""The facts of a run that went as it must, made up but plausible: for tests of what reads facts."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

STEPS: list[tuple[float, str, dict[str, int]]] = [
    (0.0, "v1 serves", {"v1": 100}),
    (14.0, "canary 10 %", {"v1": 90, "v2": 10}),
    (32.0, "canary 50 %", {"v1": 50, "v2": 50}),
    (50.0, "promoted", {"v2": 100}),
    (64.0, "bad canary 10 %", {"v2": 90, "v3": 10}),
    (76.0, "rolled back", {"v2": 100, "v3": 0}),
    (82.0, "canary removed", {"v2": 100}),
]
PIDS = {"v1": 41210, "v2": 41377, "v3": 41592}
SECONDS, RATE = 92, 321


def sample_run(seed: int = 3) -> dict[str, Any]:
    """Facts as `runs/<id>/facts.json` holds them; equal seeds give equal facts."""
    rng = np.random.default_rng(seed)
    by_second = _by_second(rng)
    answers = sum(row["requests"] for row in by_second)
    errors = sum(row["errors"] for row in by_second)
    return {
        "format": "seatrial.run/1",
        "run": "20250312-141503-7c1e",
        "started": "2025-03-12T14:15:03+00:00",
        "finished": "2025-03-12T14:18:41+00:00",
        "ok": True,
        "command": "seatrial demo",
        "stages": [
            _stage("Data", 2.1, "264,370 transactions, 1,796 of them fraud"),
            _stage("Pipeline", 61.4, "two bundles through kfp.local, six steps each"),
            _stage("Serve", 9.8, "v1 behind Envoy on 127.0.0.1:8080"),
            _stage("Canary", 54.2, "10 %, 50 %, promoted; v2 kept pid 41377"),
            _stage("Bad canary", 28.9, "v3 failed on rows with a missing value, rolled back"),
            _stage("Report", 1.3, "this page"),
        ],
        "data": {
            "source": "simulator, seed 7",
            "rows": 264370,
            "positives": 1796,
            "columns": 29,
            "from": "2024-01-01T00:00:14+00:00",
            "to": "2024-02-29T23:59:51+00:00",
        },
        "bundles": _bundles(),
        "timeline": [
            {
                "t": t,
                "step": step,
                "commit": _digest(step)[:40],
                "weights": dict(weights),
                "pids": {arm: PIDS[arm] for arm in weights},
            }
            for t, step, weights in STEPS
        ],
        "traffic": {
            "seconds": float(SECONDS),
            "answers": answers,
            "rate": round(answers / SECONDS, 1),
            "by_arm": _by_arm(by_second),
            "by_second": by_second,
            "model_errors": errors,
            "failed_by_move": 0,
        },
        "gateway": {
            "connections": 16,
            "seconds": 10.0,
            "requests": 7412,
            "rate": 741.2,
            "p50_ms": 20.4,
            "p99_ms": 41.7,
            "under_100ms": 0.99973,
            "errors": 0,
        },
        "drift_events": [
            {
                "specversion": "1.0",
                "type": "io.seatrial.drift.opened",
                "source": "/seatrial/fraud/v2",
                "id": "drift-000017",
                "time": "2025-03-12T14:17:20+00:00",
                "datacontenttype": "application/json",
                "data": {
                    "digest": _digest("v2"),
                    "arm": "v2",
                    "detector": "tabular",
                    "window_rows": 500,
                    "p_value": 0.05,
                    "features": {"amount": 0.0004, "merchant_category": 0.0011},
                },
            }
        ],
    }


def _stage(name: str, seconds: float, detail: str) -> dict[str, Any]:
    return {"name": name, "ok": True, "seconds": seconds, "detail": detail}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _by_second(rng: np.random.Generator) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for t in range(SECONDS):
        weights = next(w for start, _, w in reversed(STEPS) if start <= t)
        counts = rng.multinomial(RATE, [w / 100 for w in weights.values()])
        for arm, requests in zip(weights, counts.tolist(), strict=True):
            if requests:
                fails = int(rng.binomial(requests, 0.28)) if arm == "v3" else 0
                slow = 1.35 if t % 18 < 2 else 1.0
                p50 = 4.1 * slow * float(rng.lognormal(0, 0.08))
                p99 = 13.0 * slow * float(rng.lognormal(0, 0.22))
                latency = {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2)}
                rows.append({"t": t, "arm": arm, "requests": requests, "errors": fails, **latency})
    return rows


def _by_arm(by_second: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for arm in PIDS:
        mine = [row for row in by_second if row["arm"] == arm]
        requests, errors = (sum(row[key] for row in mine) for key in ("requests", "errors"))
        for wire, share, p50 in (("grpc", 0.4, 3.8), ("http", 0.6, 4.4)):
            part, wrong = round(share * requests), round(share * errors)
            counts = {"requests": part, "errors": wrong}
            rows.append({"arm": arm, "wire": wire, **counts, "p50_ms": p50, "p99_ms": 3.4 * p50})
    return rows


def _bundles() -> list[dict[str, Any]]:
    rows = {"v1": 120_000, "v2": 160_000, "v3": 160_000}
    parents = {"v1": None, "v2": _digest("v1"), "v3": _digest("v2")}
    return [
        {
            "role": role,
            "name": f"fraud-{_digest(role)[:12]}",
            "digest": _digest(role),
            "parent": parents[role],
            "data": _digest(f"data-{role}"),
            "code": _digest("code"),
            "rows": {"train": rows[role], "validation": 20_000, "test": 40_000},
            "metrics": {
                "roc_auc": auc,
                "roc_auc_interval": [auc - 0.012, auc + 0.011],
                "average_precision": ap,
                "recall_at_fpr_1pct": ap + 0.14,
                "ece": 0.0011,
                "test_positives": 287,
            },
            "curves": _curves(auc, ap),
        }
        for role, auc, ap in (("v1", 0.9068, 0.418), ("v2", 0.9213, 0.472), ("v3", 0.9195, 0.466))
    ]


def _curves(auc: float, ap: float) -> dict[str, list[list[float]]]:
    grid = np.linspace(0, 1, 60) ** 2
    power = (1 - auc) / auc
    recall = np.linspace(0, 1, 60)
    precision = np.clip(0.96 - (1.9 - 1.8 * ap) * recall**1.1, 0.007, 1)
    score = np.geomspace(0.0004, 0.8, 10)
    rate = score * np.exp(0.22 * np.sin(np.arange(10) * 1.7 + 10 * ap))
    sizes = np.geomspace(20_000, 60, 10).round()
    return {
        "roc": np.column_stack([grid, grid**power]).round(5).tolist(),
        "pr": np.column_stack([recall, precision]).round(5).tolist(),
        "calibration": np.column_stack([score, rate, sizes]).round(5).tolist(),
    }
