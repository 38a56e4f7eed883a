"""A canary led by the gate: the plan it runs under, and what the report shows of its evidence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving.local import LocalPlayer
from serving.rollout.gate import (
    PLAN_FILE,
    Action,
    ActionKind,
    Phase,
    Plan,
    parse_plan,
    share_of,
)
from serving.rollout.run.lead import lead
from serving.rollout.run.parts import GateSettings, build
from serving.rollout.run.runner import Step
from serving.rollout.run.store import Run

TOLERANCE = 3.0
"""Odds ratio a decile of scores may move by. Honest retrains of the simulator's model on a later
window move their lowest deciles by up to 2, so the default of 1.5 would hold them."""
MOVES = {
    ActionKind.SET_WEIGHT: "{canary} {share} %",
    ActionKind.PROMOTE: "{canary} promoted",
    ActionKind.ROLL_BACK: "{canary} rolled back",
    ActionKind.CLEAN_UP: "cleaned up",
}
DARK = Action(ActionKind.SET_WEIGHT, 0)
"""The gate's first move; the canary has entered dark already, so it changes nothing."""
HELD_LOOKS = 5
"""Looks that a canary stays past its tolerance before the demo aborts it, as a person would."""


def demo_plan(canary: str, *, scores: bool = True) -> Plan:
    """alpha, beta and psi_max are a plan's defaults, as in production; only waits are shortened."""
    metrics: list[dict[str, Any]] = [
        {"kind": "errors", "max_rate": 0.01},
        {"kind": "latency", "slo_seconds": 0.25, "max_rate": 0.01},
    ]
    if scores:
        metrics.append({"kind": "scores", "tolerance": TOLERANCE})
    return parse_plan(
        {
            "canary": canary,
            "metrics": metrics,
            "look_seconds": 1.0,
            "min_seconds": 2.0,
            "cleanup_seconds": 2.0,
            "time_cap_seconds": 150.0,
            "remove_after_rollback": True,
        },
        "the demo's plan",
    )


class Guard:
    """Leads one canary of a deploy folder to the end of its run."""

    def __init__(
        self,
        folder: Path,
        player: LocalPlayer,
        plan: Plan,
        *,
        clock: Callable[[], float],
        looked: Callable[[], None],
        moved: Callable[[str], None],
        progress: Callable[[str], None],
    ) -> None:
        """`clock`: seconds since the traffic began; `looked` is called after each look and may
        raise to end the run; `moved` gets the name of each move."""
        self._folder, self._player, self._plan = folder, player, plan
        self._clock, self._looked_at = clock, looked
        self._moved, self._progress = moved, progress
        self._run: Run | None = None
        self._held = 0
        self.outcome: Phase | None = None
        self.stopped_by: str | None = None
        """The metric whose evidence against the canary crossed its threshold first."""
        self.verdict = ""
        """The gate's words at that look."""
        self.last_reason = "it never looked"
        self.facts: dict[str, Any] = {
            "canary": plan.canary,
            "alpha": plan.alpha,
            "beta": plan.beta,
            "psi_max": plan.psi_max,
            "outcome": None,
            "looks": [],
        }

    def lead(self) -> None:
        """Returns once the run has ended: promoted and cleaned up, or rolled back."""
        settings = GateSettings(
            folder=self._folder,
            actuator="git",
            traffic="local",
            state_dir=self._player.state_dir,
        )
        parts = build(settings, self._plan)
        state = lead(
            settings.runs,
            self._plan,
            parts.source,
            parts.actuator,
            parts.lease,
            settings=settings.model_dump(mode="json"),
            digest=parts.digest,
            progress=self._looked,
            started=self._started,
        )
        self.outcome = state.phase
        self.facts["outcome"] = state.phase.value

    def _started(self, run: Run) -> None:
        self._run = run

    def _looked(self, step: Step) -> None:
        share = share_of(self._plan, step.state)
        readings = step.state.proofs.readings(self._plan, share)
        self.facts["looks"].append(
            {
                "t": self._clock(),
                "share": share,
                "readings": [reading.to_json() for reading in readings],
                "action": step.action.kind.value,
                "reason": step.reason,
            }
        )
        self.last_reason = step.reason
        self._progress(f"{self._plan.canary}: {step.reason}")
        crossed = [reading for reading in readings if reading.crossed]
        if crossed and self.stopped_by is None:
            self.stopped_by, self.verdict = crossed[0].kind, step.reason
        if step.action.kind in MOVES and step.action != DARK:
            name = MOVES[step.action.kind].format(
                canary=self._plan.canary, share=step.action.weight
            )
            self._moved(name)
        self._looked_at()
        past = any(reading.shift for reading in crossed)
        self._held = self._held + 1 if past and step.state.phase is Phase.STEP else 0
        if self._held == HELD_LOOKS and self._run is not None:
            self._run.ask("abort", by="the demo, for a person")


def write_plan(folder: Path, plan: Plan) -> None:
    """The plan beside the overlay, as JSON, which is YAML."""
    (folder / PLAN_FILE).write_text(plan.canonical_json() + "\n")
