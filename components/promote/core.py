"""The gate as a step of a pipeline: it leads a canary and says how that ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from serving.errors import UsageError
from serving.rollout.gate import Phase, Plan, read_plan
from serving.rollout.gate.plan import PLAN_FILE
from serving.rollout.run.lead import lead
from serving.rollout.run.parts import GateSettings, Parts, build
from serving.rollout.run.runner import Step

PROMOTED, ROLLED_BACK, HELD = "promoted", "rolled_back", "held"


def run(
    *,
    folder: Path,
    canary: str = "",
    actuator: str = "git",
    traffic: str = "cluster",
    push: bool = False,
    source: str = "predictors",
    prometheus_url: str = "",
    recorded: Path | None = None,
    state_dir: Path | None = None,
    runs_dir: Path | None = None,
    context: str = "",
) -> dict[str, Any]:
    """Leads the canary of a deploy folder by its plan.yaml until the gate has decided.

    folder: deploy folder with manifest.yaml, rollout.yaml and plan.yaml.
    canary: the predictor to lead; empty for the plan's.
    actuator: who makes a move: git (a commit), kubernetes (the gate itself), local (the player).
    traffic: where a commit takes effect: cluster or local; for actuator git.
    push: push every commit; for actuator git.
    source: who counts: predictors, prometheus, or file.
    prometheus_url: its address, for source prometheus.
    recorded: the file of intervals, for source file.
    state_dir: the player's state, for what is local.
    runs_dir: where runs are kept; in the deploy folder otherwise.
    context: kubeconfig's context; empty for the current one.

    Returns the outcome: promoted, rolled_back, or held when the plan's time cap was reached and a
    person must decide; the canary is then dark. A run that was broken off goes on. Raises
    UsageError, ManifestError or GateError.
    """
    plan = _plan(folder, canary)
    given = {
        "folder": folder.absolute(),
        "actuator": actuator,
        "traffic": (traffic or None) if actuator == "git" else None,
        "push": push,
        "source": source,
        "prometheus_url": prometheus_url,
        "recorded": recorded and recorded.absolute(),
        "state_dir": state_dir and state_dir.absolute(),
        "runs_dir": runs_dir and runs_dir.absolute(),
        "context": context or None,
    }
    try:
        settings = GateSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{first['loc'][0]} {first['input']!r}: {first['msg']}") from None
    parts = build(settings, plan)
    if not settings.on_cluster:
        # On one machine nobody else brings what is listed to the player: a canary that only the
        # file knows would be waited for until the time cap.
        parts.actuator.write(parts.actuator.read(), f"canary {plan.canary} is listed", {})
    return led(settings, plan, parts)


def led(settings: GateSettings, plan: Plan, parts: Parts) -> dict[str, Any]:
    """As `run`, by these parts."""
    seen: list[Step] = []

    def look(step: Step) -> None:
        seen[:] = [step]
        if step.state.phase is Phase.ASK and step.state.intended is None:
            raise _Asking

    try:
        state = lead(
            settings.runs,
            plan,
            parts.source,
            parts.actuator,
            parts.lease,
            settings=settings.model_dump(mode="json"),
            digest=parts.digest,
            progress=look,
        )
        outcome = PROMOTED if state.phase is Phase.DONE else ROLLED_BACK
    except _Asking:
        state, outcome = seen[0].state, HELD
    return {
        "outcome": outcome,
        "run": state.run,
        "canary": plan.canary,
        "reason": seen[0].reason if seen else "",
    }


class _Asking(Exception):
    """A person must decide, and a pipeline cannot wait for one."""


def _plan(folder: Path, canary: str) -> Plan:
    plan = read_plan(folder / PLAN_FILE)
    return plan.model_copy(update={"canary": canary}) if canary else plan
