"""The local player: plays rendered KServe manifests on one machine, as processes behind Envoy."""

from serving.local.client import LocalPlayer
from serving.local.network import check_port_free
from serving.local.settings import PlayerSettings, default_state_dir, load_settings
from serving.local.status import ArmStatus, Status

__all__ = [
    "ArmStatus",
    "LocalPlayer",
    "PlayerSettings",
    "Status",
    "check_port_free",
    "default_state_dir",
    "load_settings",
]
