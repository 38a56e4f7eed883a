"""One turn of the standing gate: is there a canary to lead, and if so, lead it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from serving.rollout.gate.plan import PLAN_FILE, Plan, read_plan
from serving.rollout.overlay import ROLLOUT_FILE
from serving.rollout.run.lead import lead
from serving.rollout.run.parts import GateSettings, Parts, build
from serving.rollout.run.runner import Step
from serving.rollout.run.store import Runs
from serving.rollout.standing.metrics import Metrics
from serving.rollout.standing.repository import cloned
from serving.rollout.standing.settings import Settings
from serving.rollout.state import RolloutState

Build = Callable[[GateSettings, Plan], Parts]


class StandingGate:
    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        tell: Callable[[str], None],
        make: Build = build,
    ) -> None:
        self._settings, self._metrics = settings, metrics
        self._tell, self._make = tell, make
        self._runs = Runs(settings.runs)

    def turn(self) -> str:
        """Leads a run to its end, if there is one to lead; returns what came of it.

        Raises GateError and ManifestError; the next turn tries again.
        """
        settings = self._settings
        if settings.actuator == "git":
            if not settings.repository:
                return "waiting: no repository to commit to; set SEATRIAL_GATE_REPOSITORY"
            cloned(settings.repository, settings.branch, settings.clone)
        folder = settings.deploy_folder
        if not (folder / ROLLOUT_FILE).is_file():
            return f"waiting: {folder} has no {ROLLOUT_FILE}"
        plan_file = _plan_file(folder, settings.plan)
        if plan_file is None:
            return f"waiting: neither {folder / PLAN_FILE} nor {settings.plan} is there"
        plan, gate = read_plan(plan_file), settings.gate()
        parts = self._make(gate, plan)
        if not self._unfinished():
            # Reading pulls, and may have brought another plan.
            rollout = parts.actuator.read()
            plan = read_plan(_plan_file(folder, settings.plan) or plan_file)
            wait = self._nothing_to_lead(rollout, plan)
            if wait:
                return wait
        state = lead(
            self._runs,
            plan,
            parts.source,
            parts.actuator,
            parts.lease,
            settings=gate.model_dump(mode="json"),
            digest=parts.digest,
            started=lambda run: self._tell(f"run {run.id}: at work"),
            progress=self._progress,
        )
        self._metrics.ended(state)
        return f"run {state.run}: {state.phase.value}"

    def _unfinished(self) -> bool:
        run = self._runs.current()
        if run is None:
            return False
        state = run.load()
        return not state.ended or state.intended is not None

    def _nothing_to_lead(self, rollout: RolloutState, plan: Plan) -> str:
        listed = {canary.arm.name: canary.arm.storage_uri for canary in rollout.canaries}
        if plan.canary not in listed:
            names = ", ".join(listed) or "none"
            return f"waiting: the plan is for canary '{plan.canary}' and listed are: {names}"
        for run in self._runs.all():
            judged = run.load().canary
            # Rolled back, it stays listed at 0 %; only another bundle is another try.
            if (judged.name, judged.storage_uri) == (plan.canary, listed[plan.canary]):
                return f"waiting: run {run.id} has judged canary '{plan.canary}' with this bundle"
        return ""

    def _progress(self, step: Step) -> None:
        self._metrics.looked(step, time.time())
        weight = "?" if step.observation.weight is None else step.observation.weight
        problem = f"; {step.problem}" if step.problem else ""
        self._tell(f"{step.state.phase.value} {weight} %: {step.reason}{problem}")


def _plan_file(folder: Path, other: Path) -> Path | None:
    return next((file for file in (folder / PLAN_FILE, other) if file.is_file()), None)
