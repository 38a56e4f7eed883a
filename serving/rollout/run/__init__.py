"""The gate at work: a run's record and lease, its looks, and what is done about them."""

from serving.rollout.run.lead import lead
from serving.rollout.run.lease import FileLease, Lease, held, holder
from serving.rollout.run.parts import GateSettings, build
from serving.rollout.run.runner import Runner, Step, obey
from serving.rollout.run.store import Asked, Run, Runs
from serving.rollout.run.view import RunView, view

__all__ = [
    "Asked",
    "FileLease",
    "GateSettings",
    "Lease",
    "Run",
    "RunView",
    "Runner",
    "Runs",
    "Step",
    "build",
    "held",
    "holder",
    "lead",
    "obey",
    "view",
]
