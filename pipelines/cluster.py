"""Where a step runs on a cluster. kfp.local passes over all of it.

What kfp-kubernetes takes as a parameter is one of the pipelines; deadlines, retries and the size of
shared memory are compiled in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kfp import kubernetes

MOUNT = "/mnt/seatrial"
"""Where the claim lies in each step that reads or writes paths."""
GPU = "nvidia.com/gpu"
# Labels and taint as NVIDIA's GPU operator and the managed clouds set them.
GPU_NODES: dict[str, str] = {"nvidia.com/gpu.present": "true"}
GPU_TOLERATIONS: list[dict[str, str]] = [
    {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
]
CLAIM, SECRET = "seatrial-bundles", "seatrial-s3"
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION")
HOUR = 3600


@dataclass(frozen=True)
class Pool:
    """The node pool of the training step; each field is a pipeline's parameter."""

    accelerator: Any
    count: Any
    nodes: Any
    tolerations: Any
    cpu: Any
    memory: Any


@dataclass(frozen=True)
class Storage:
    """What gives steps their files: a claim, and a secret for s3://; parameters both."""

    claim: Any
    secret: Any


def on_gpu(task: Any, pool: Pool) -> None:
    """Onto the GPU pool. A retry goes on from the last checkpoint: spot nodes come and go."""
    task.set_accelerator_type(pool.accelerator).set_accelerator_limit(pool.count)
    task.set_cpu_request(pool.cpu).set_memory_request(pool.memory)
    kubernetes.add_node_selector_json(task, pool.nodes)
    kubernetes.add_toleration_json(task, pool.tolerations)
    # A container's own /dev/shm of 64 MiB ends loaders with a bus error.
    kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit="8Gi")  # noqa: S108
    # A pod that no node takes waits without a word, until its deadline.
    kubernetes.set_timeout(task, 12 * HOUR)
    task.set_retry(3, backoff_duration="60s", backoff_factor=2.0, backoff_max_duration="600s")


def on_cpu(task: Any, *, cpu: str = "1", memory: str = "4Gi", hours: int = 2) -> None:
    """Onto any node: no selector and no toleration, so that a tainted GPU pool stays free."""
    task.set_cpu_request(cpu).set_memory_request(memory)
    kubernetes.set_timeout(task, hours * HOUR)


def with_storage(task: Any, storage: Storage) -> None:
    """Mounts the claim at MOUNT and gives the step S3's credentials, where the secret is there."""
    kubernetes.mount_pvc(task, storage.claim, MOUNT)
    kubernetes.use_secret_as_env(task, storage.secret, {key: key for key in _KEYS}, optional=True)
