"""`python -m benchmarks.rollout.reaction`: from evidence to 0 % at a real gateway; writes
reaction.md. Real predictors, Envoy and clients; the canary fails one row in ten."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serving.local.client import LocalPlayer
from serving.local.orphans import end_at_once
from serving.rollout.gate import Phase, read_plan
from serving.rollout.gate.audit import verify
from serving.rollout.gate.observation import Observation
from serving.rollout.run import GateSettings, build, lead
from tests.serving.local.deploy import Deploy
from tests.support.faults import faulty_bundle
from tests.support.sender import Answer, Sender

BAR_S = 3.0
LOOK_S = 1.0
AFTER_S = 1.0
"""How long answers are still watched for the canary's after its run."""
PLAN = {
    "format": "seatrial.rollout/1",
    "canary": "v2",
    "steps": [25, 50, 100],
    "metrics": [
        {"kind": "errors", "max_rate": 0.01},
        {"kind": "latency", "slo_seconds": 0.25, "max_rate": 0.05},
    ],
    "min_seconds": 1.0,
    "look_seconds": LOOK_S,
}


@dataclass(frozen=True)
class Reaction:
    """Seconds up to the last request that the canary was given."""

    from_interval: float
    """From the begin of the interval in which the evidence crossed: at its end it was not there."""
    from_look: float
    """From that interval's end, when the counters were read."""
    lost: int
    """Answers that failed though the canary's model did not fail them."""


def reactions(runs: int, folder: Path) -> list[Reaction]:
    """One canary, dark before every run and after it."""
    deploy = Deploy(folder / "deploy")
    deploy.bundle("v1")
    deploy.bundle("v2", faulty_bundle(folder / "made", "fail"))
    (deploy.path / "plan.yaml").write_text(json.dumps(PLAN))
    player = LocalPlayer(folder / "state", notify=lambda _: None)
    try:
        player.up(deploy.rollout("v1", {"v2": 0}))
        with Sender(deploy.gateway, folder / "answers.jsonl") as sender:
            return [_one(deploy, player, sender) for _ in range(runs)]
    finally:
        player.down()
        end_at_once(player.state_dir)


def _one(deploy: Deploy, player: LocalPlayer, sender: Sender) -> Reaction:
    settings = GateSettings(folder=deploy.path, state_dir=player.state_dir)
    plan, began = read_plan(deploy.path), time.time()
    parts = build(settings, plan)
    state = lead(settings.runs, plan, parts.source, parts.actuator, parts.lease)
    if state.phase is not Phase.ROLLED_BACK:
        raise SystemExit(f"the failing canary was {state.phase.value}")
    crossed = next(
        Observation.from_json(entry.body["observation"])
        for entry in verify(settings.runs.get().audit_file)
        if entry.kind == "look" and entry.body["decision"]["action"]["kind"] == "roll-back"
    )
    time.sleep(AFTER_S)
    answers = sender.answers(began)
    last = max(answer.sent for answer in answers if answer.arm == "v2")
    lost = sum(_lost(answer) for answer in answers)
    return Reaction(last - crossed.start, last - crossed.end, lost)


def _lost(answer: Answer) -> bool:
    return answer.status != 200 and (answer.arm, answer.status) != ("v2", 500)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.rollout.reaction", description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="(default 20)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="its folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = reactions(args.runs, Path(folder))
    text = _markdown(found)
    (args.out / "reaction.md").write_text(text)
    sys.stdout.write(text)
    return 0


def _markdown(found: Sequence[Reaction]) -> str:
    lost = sum(one.lost for one in found)
    lines = [
        "# From the evidence to 0 % at the gateway",
        "",
        (
            f"`python -m benchmarks.rollout.reaction`, part of `make bench-rollout`, wrote this on"
            f" {platform.machine()}: {len(found)} runs."
        ),
        "Real predictors, Envoy and clients; a canary at 25 % that fails one row in ten; a look",
        f"every {LOOK_S:g} s. Measured at the client, up to the last request that the canary got.",
        f"{lost} of all answers failed that the canary's model had not failed itself.",
        "",
        "| from | least | median | p95 | most | bar | reached |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, values in (
        (
            "the begin of the interval in which the evidence crossed",
            [one.from_interval for one in found],
        ),
        ("the look that saw it", [one.from_look for one in found]),
    ):
        # The smallest of the runs that 95 % of them do not exceed: no interpolation.
        p95 = float(np.quantile(values, 0.95, method="inverted_cdf"))
        numbers = (min(values), float(np.median(values)), p95, max(values))
        reached = "yes" if p95 < BAR_S else "**missed**"
        cells = " | ".join(f"{number:.2f} s" for number in numbers)
        lines.append(f"| {name} | {cells} | p95 < {BAR_S:g} s | {reached} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
