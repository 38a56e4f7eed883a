"""Rollouts: the manifest, rollout.yaml and its edits."""

from serving.rollout.deploy_folder import create_deploy_folder
from serving.rollout.edits import (
    promoted,
    rolled_back,
    with_canary,
    with_replicas,
    with_weight,
    without_canary,
)
from serving.rollout.manifest import Manifest, read_manifest
from serving.rollout.merge import merge, merge_patch
from serving.rollout.overlay import read_rollout, write_rollout
from serving.rollout.rules import check_change, check_rules
from serving.rollout.state import Arm, Canary, Dialect, RolloutState

__all__ = [
    "Arm",
    "Canary",
    "Dialect",
    "Manifest",
    "RolloutState",
    "check_change",
    "check_rules",
    "create_deploy_folder",
    "merge",
    "merge_patch",
    "promoted",
    "read_manifest",
    "read_rollout",
    "rolled_back",
    "with_canary",
    "with_replicas",
    "with_weight",
    "without_canary",
    "write_rollout",
]
