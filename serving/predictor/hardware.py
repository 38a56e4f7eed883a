"""What this process may use: CPUs by its cgroup, and ONNX Runtime's providers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
CPU = PROVIDERS["cpu"]
DEVICE_KEY = "seatrial.device"
"""In the model's own metadata: "gpu" demands one, "prefer-gpu" would like one."""


def cpu_limit(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """CPUs that the cgroup (v1 or v2) and the affinity mask leave to this process."""
    limits = [float(len(os.sched_getaffinity(0)))]
    folders = {root, root / "cpu"}
    for line in _lines(own):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            folders.add(root / path.strip("/"))
        elif "cpu" in controllers.split(","):
            folders.add(root / "cpu" / path.strip("/"))
    for folder in folders:
        for quota, period in (
            (_numbers(folder / "cpu.max") or (-1.0, -1.0))[:2],
            (
                *(_numbers(folder / "cpu.cfs_quota_us") or (-1.0,)),
                *(_numbers(folder / "cpu.cfs_period_us") or (-1.0,)),
            ),
        ):
            if quota > 0 and period > 0:
                limits.append(quota / period)
    return min(limits)


def threads_for(workers: int) -> int:
    """Threads of one worker's ONNX Runtime: whole CPUs only, at least one."""
    return max(1, int(cpu_limit() / workers))


def providers_for(order: Sequence[str], available: Sequence[str]) -> list[str]:
    """ONNX Runtime's names for the wanted providers it was built with, the CPU's always last."""
    names = [PROVIDERS[name] for name in order if PROVIDERS[name] in available]
    return [name for name in names if name != CPU] + [CPU]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []


def _numbers(file: Path) -> tuple[float, ...] | None:
    """None when there is no such file or no limit in it."""
    try:
        return tuple(float(word) for line in _lines(file)[:1] for word in line.split()) or None
    except ValueError:
        return None  # "max"
