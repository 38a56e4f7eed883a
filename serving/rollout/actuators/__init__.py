"""How a decision reaches the traffic: Git, the local player, or the cluster.

`serving.rollout.actuators.kubernetes` is imported by those who use it: its client takes a second.
"""

from serving.rollout.actuators.actuator import Actuator, Health, Plane
from serving.rollout.actuators.git import GitActuator
from serving.rollout.actuators.local import LocalActuator

__all__ = ["Actuator", "GitActuator", "Health", "LocalActuator", "Plane"]
